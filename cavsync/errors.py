"""The root of the errors that a user can cause and mend; every other one derives from it."""


class CavsyncError(Exception):
    """Expected failure: the message names what is wrong, where, and what to do. The CLI prints it alone."""
