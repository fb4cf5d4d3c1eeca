"""Errors of training and evaluation that the user can fix."""

from cavsync.errors import CavsyncError


class EvaluationError(CavsyncError):
    """An evaluation that cannot be computed as asked."""


class StudyError(CavsyncError):
    """A study file or a study's folder that cannot be used; the message names the key or the file."""
