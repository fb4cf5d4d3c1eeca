"""Most commands write reports, which these tests read, and decode files."""

from pathlib import Path

import pytest
from support.labelled_shards import write_labelled_shards


@pytest.fixture(scope="module", autouse=True)
def reports_are_quick(quick_reports: None, float32_inference: None) -> None:
    """For all tests of the command line."""


@pytest.fixture(scope="module", autouse=True)
def decoders_are_quick(quick_decoders: None) -> None:
    """For all tests of the command line."""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset whose clips have labels."""
    return write_labelled_shards(tmp_path_factory.mktemp("labelled"))
