"""Non-local networks: configs of the published models."""
