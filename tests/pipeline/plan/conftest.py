"""The tests of plans prepare small datasets, and decode files to do so."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def decoders_are_quick(quick_decoders: None) -> None:
    """For all tests of this folder."""
