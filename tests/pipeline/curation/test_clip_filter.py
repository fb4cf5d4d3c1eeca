"""Proves what a condition over the columns of the index chooses, and that it reaches nothing else."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cavsync.pipeline.curation.clip_filter import CLIP_SCHEMA, ClipFilter, FilterError

CLIPS = pa.table(
    {
        "key": ["a_00000000", "b_00001000", "c_00002000", "d_00003000"],
        "silent": [False, True, False, None],
        "still": [False, False, True, False],
        "duration_s": [10.0, 10.0, 4.0, 10.0],
        "labels": [["Dog"], ["Dog", "Cat"], [], None],
        "audio_gaps_s": pa.array([[], [[0.0, 1.5]], [], []], pa.list_(pa.list_(pa.float64()))),
    }
)


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("not silent and not still and duration_s >= 5", "a"),
        ("duration_s >= 5", "abd"),
        ("list_contains(labels, 'Cat') or len(labels) = 0", "bc"),
        ("len(audio_gaps_s) = 0", "acd"),
        ("key like 'c%' or key < 'b'", "ac"),
        ("still is null", ""),
        ("silent is null or silent", "bd"),
        ("true", "abcd"),
    ],
)
def test_the_clips_for_which_a_condition_is_true_are_kept(expression: str, kept: str) -> None:
    found = ClipFilter(expression).kept(CLIPS)
    assert [key[0] for key in np.array(CLIPS["key"].to_pylist())[found]] == list(kept)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("durations_s > 5", '"duration_s"'),
        ("duration_s", "it gives DOUBLE, not true or false"),
        ("avg(duration_s) > 5", "one value for all clips"),
        ("silent, still", "it is 2 expressions"),
        ("duration_s > 'long'", "long"),
        ("silent and", "syntax error"),
        ("", "the columns are key"),
        ("silent; drop table clips", "--keep 'silent; drop table clips' chooses no clips"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_cause(expression: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        ClipFilter(expression).check(CLIP_SCHEMA)
    assert message in str(caught.value)


def test_a_condition_reads_no_file_and_no_variable(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nxyzzy\n")
    clips = CLIPS  # a name that DuckDB would find, were it allowed to look  # noqa: F841
    for source in (f"read_csv('{secret}')", f"'{secret}'", "clips", "CLIPS"):
        with pytest.raises(FilterError):
            ClipFilter(f"exists(select 1 from {source})").check(CLIP_SCHEMA)
