"""Proves that `cavsync eval retrieval` counts copies of training clips under other ids, from the pairs of `data duplicates`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from support import command_line
from support.command_line import output_text
from support.labelled_shards import NUM_TEST

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.duplicates.pairs import DuplicatePair, find_pairs_of, write_pairs
from cavsync.pipeline.storage.path import sha256

# Clips 2, 3, 8 and 9 are in the test split.
COPY = DuplicatePair(
    key="clip000_00000000",
    other="clip002_00000000",
    split="train",
    other_split="test",
    matched="both",
    offset_s=1.5,
    overlap_s=8.5,
    mirrored=False,
    audio_similarity=0.9,
    frame_similarity=0.95,
)
MUSIC = replace(COPY, key="clip003_00000000", other="clip001_00000000", matched="audio")
# Of two test clips: nothing that was trained on.
AMONG_TEST = replace(COPY, key="clip008_00000000", other="clip009_00000000", split="test")


def retrieval(run: Path, *options: object) -> Result:
    return command_line.run("eval", "retrieval", "--checkpoint", run, *options)


def test_copies_of_training_clips_count_as_trained_on(labelled_run: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.parquet"
    write_pairs(pairs, [COPY, MUSIC, AMONG_TEST], {})
    result = retrieval(labelled_run, "--duplicates", pairs, "--out", tmp_path / "report", "--json")
    found = json.loads(result.stdout)["results"]["contamination"]
    assert found["trained"] == ["clip002_00000000"]
    assert found["copies"] == {
        "path": str(pairs),
        "both": ["clip002_00000000"],
        "audio": ["clip003_00000000"],
        "frames": [],
    }
    assert found["without"]["num_clean"] == NUM_TEST - 1
    page = (tmp_path / "report" / "report.html").read_text()
    assert "1 are copies of training clips by their audio and frames" in page
    assert "1 share only the audio of one" in page


def test_the_pairs_in_the_folder_of_the_dataset_are_found(
    labelled_run: Path, labelled: Path, tmp_path: Path
) -> None:
    nothing = output_text(retrieval(labelled_run, "--out", tmp_path / "none"))
    assert "Copies under other ids were not looked for" in nothing
    kept = labelled / "duplicates-2" / "pairs.parquet"
    kept.parent.mkdir()
    known = {"summary_sha256": sha256(labelled / "dataset.json"), "split": "all", "other": None}
    write_pairs(kept, [COPY], known)
    found = output_text(retrieval(labelled_run, "--out", tmp_path / "found"))
    assert "1 are copies of training clips" in found


@pytest.mark.parametrize(
    "change",
    [{"summary_sha256": "of before"}, {"split": "test"}, {"other": "elsewhere", "other_split": "all"}],
)
def test_pairs_of_other_clips_are_not_taken_for_those_of_the_dataset(
    labelled: Path, change: dict[str, str]
) -> None:
    kept = labelled / "duplicates" / "pairs.parquet"
    known = {"summary_sha256": sha256(labelled / "dataset.json"), "split": "all", "other": None}
    write_pairs(kept, [COPY], known | change)
    (labelled / "duplicates-2" / "pairs.parquet").unlink(missing_ok=True)
    assert find_pairs_of(Dataset.open(labelled), [str(labelled)]) is None
    write_pairs(kept, [COPY], known)
    found = find_pairs_of(Dataset.open(labelled), [str(labelled)])
    assert found is not None
    assert found.pairs == [COPY]


def test_pairs_that_cannot_be_used_are_refused(labelled_run: Path, tmp_path: Path) -> None:
    foreign, missing = tmp_path / "foreign.parquet", tmp_path / "none.parquet"
    write_pairs(foreign, [replace(COPY, key="x_00000000", other="y_00000000")], {"dataset": "data/other"})
    for path, message in (
        (foreign, "no clip of them is among the scored or the training clips"),
        (missing, "is not there"),
        (labelled_run / "model.safetensors", "is no Parquet file"),
        (labelled_run.parents[1], "is not there"),
    ):
        refused = retrieval(labelled_run, "--duplicates", path, "--out", tmp_path / "refused")
        assert refused.exit_code != 0
        assert message in output_text(refused)
