"""Pure arithmetic without parameters."""
