"""Errors of the model that the user can fix. Imports no torch, so that the command line may name them."""

from cavsync.errors import CavsyncError


class CheckpointError(CavsyncError, ValueError):
    """A file that cannot be read as a model; the message names the file, the reason and the way out."""


class ModelConfigError(CavsyncError, ValueError):
    """A field of a configuration that does not exist, or a value that it cannot have."""


class InputShapeError(CavsyncError, ValueError):
    """An input tensor of another shape than the model takes."""
