"""What a trained model says of each clip of a dataset, to choose clips by."""
