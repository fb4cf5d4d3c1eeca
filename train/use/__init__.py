"""A trained model on one's own videos: embeddings, search, and where a sound comes from."""
