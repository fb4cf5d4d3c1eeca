"""A pretrained model and labels to a classifier."""
