"""Data in numpy and Grain; nothing here uses jax (workers are separate processes)."""
