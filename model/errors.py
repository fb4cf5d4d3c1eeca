"""Errors of the model that a user can cause and mend. Imports no torch, so that the command line may name them."""

from cavsync.errors import CavsyncError


class CheckpointError(CavsyncError, ValueError):
    """A file that cannot be read as a model; the message says which, why, and what to do."""
