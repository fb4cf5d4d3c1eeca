"""The root of the errors that the user can fix; every other one derives from it."""


class CavsyncError(Exception):
    """Expected failure: the message names what is wrong, where, and what to do. The CLI prints it alone."""


class PeerFailedError(CavsyncError):
    """A process of a run stops because another one failed; that one reports why, so the CLI prints nothing."""

    def __init__(self, rank: int) -> None:
        super().__init__(
            f"Process {rank} stops because another process of the run failed, which reports why."
        )
