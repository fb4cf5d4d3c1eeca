"""Proves that an error stands alone: no progress bar or spinner is left before its message."""

from pathlib import Path

import pytest
from support.command_line import output_text, run
from support.known_shards import write_known_shards
from support.trainings import events, micro

pytestmark = pytest.mark.usefixtures("quick_audio")

BAR = "━"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a run, whose clips are then cut off, so that reading them fails behind a bar."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=6)
    events(*micro("--root", root, "--no-estimate"))
    for tar in (root / "data" / "demo" / "shards").iterdir():
        tar.write_bytes(tar.read_bytes()[:1000])
    return root


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["eval", "retrieval", "--split", "train"], "embedding"),
        (["eval", "synchrony", "--split", "train"], "embedding"),
        (["train", *micro("--run", "RUN", "--no-estimate")], "training"),
    ],
    ids=["retrieval", "synchrony", "train"],
)
def test_no_bar_is_left_before_an_error(command: list[str], shown: str, broken: Path, tmp_path: Path) -> None:
    result = run(*(tmp_path / "run" if one == "RUN" else one for one in command), "--root", broken)
    assert result.exit_code == 1
    text = output_text(result)
    assert "Error" in text
    assert BAR not in text
    assert f"{shown} " not in text.partition("Error")[0].partition("Checkpoint:")[2]


def test_a_bar_stays_where_all_went_well(tmp_path: Path) -> None:
    write_known_shards(tmp_path / "data" / "demo", num_clips=6)
    result = run("train", *micro("--root", tmp_path, "--no-estimate"))
    assert result.exit_code == 0
    assert BAR in result.output
