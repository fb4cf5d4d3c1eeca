"""What a user can mend."""

from cavsync.errors import CavsyncError


class EvaluationError(CavsyncError):
    """An evaluation that cannot be computed as asked."""
