"""The other frame predictors, one file a model; variants are data sets."""
