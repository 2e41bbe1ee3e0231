"""The checks of a data set and of the computer before training."""
