"""Most commands write reports; these tests read what reports say."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def reports_are_quick(quick_reports: None) -> None:
    """For all tests of the command line."""
