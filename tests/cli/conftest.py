"""Most commands write reports, which these tests read, and decode files."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def reports_are_quick(quick_reports: None, float32_inference: None) -> None:
    """For all tests of the command line."""


@pytest.fixture(scope="module", autouse=True)
def decoders_are_quick(quick_decoders: None) -> None:
    """For all tests of the command line."""
