"""TAU configs, one file a data set."""
