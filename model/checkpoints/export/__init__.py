"""A model for others: the published layout, and its encoders as programs."""
