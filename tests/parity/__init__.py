"""Agents against transcriptions of their papers."""
