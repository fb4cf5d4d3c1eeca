"""The card of a dataset that is shared, with plots and sample clips, and its Croissant description."""
