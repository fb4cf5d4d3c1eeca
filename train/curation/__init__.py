"""Scores of clips by a trained model, to choose clips by, and the page of clips that are the same recording."""
