"""Meshes and the rules of sharding."""
