"""A checkpoint on a user's own videos."""
