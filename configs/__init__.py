"""Configs: one file a model and data set."""
