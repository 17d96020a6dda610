"""Fusion search: configs of the published networks."""
