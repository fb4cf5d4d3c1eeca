"""What training and scoring do on a GPU: whether they are right there, and how fast."""
