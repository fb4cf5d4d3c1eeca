"""Errors of training and evaluation that the user can fix."""

from cavsync.errors import CavsyncError


class EvaluationError(CavsyncError):
    """An evaluation that cannot be computed as asked."""
