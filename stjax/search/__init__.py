"""Fusion search: one template of all strategies, and what is known from it."""
