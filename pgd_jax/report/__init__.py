"""Reports: finished runs as a page with tables and figures."""
