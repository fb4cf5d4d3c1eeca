"""The error of a study that cannot be read, run or continued."""

from cavsync.errors import CavsyncError


class StudyError(CavsyncError):
    """A study file or a study's folder that cannot be used; the message names the key or the file."""
