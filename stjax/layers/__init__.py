"""The papers' blocks as Flax Linen modules."""
