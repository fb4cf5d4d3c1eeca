"""What a dataset that is shared says of itself: a card with pictures, and a Croissant description."""
