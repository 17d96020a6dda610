"""UniFormer: configs of the published models."""
