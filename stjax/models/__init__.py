"""Whole networks and the table of their names."""
