"""Finished runs as a page with tables and figures."""
