"""State, step, loop, checkpoints and logs."""
