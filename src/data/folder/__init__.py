"""A folder of one's own images and masks as a data set."""
