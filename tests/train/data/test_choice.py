"""Proves which clips `data.keep` trains on, from the index and from a stream, alone, with scores and with a limit of gaps."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.known_shards import micro_model, raw_data, write_known_shards

from cavsync.pipeline.curation.clip_filter import FilterError
from cavsync.pipeline.curation.score_file import ScoreFileError, write_scores
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pairs import ClipAllPairs, ClipPairs
from cavsync.train.data.stream.source import StreamedSource
from cavsync.train.engine.config import ConfigError

NUM_CLIPS = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip 7 lacks .5 s of audio."""
    return write_known_shards(
        tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS, audio_gaps_s={7: [(1.0, 1.5)]}
    )


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score of n / 10 for clip n, and none for the last two."""
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    rows = [{"key": f"clip{clip:03d}_00000000", "match": clip / 10} for clip in range(NUM_CLIPS - 2)]
    write_scores(path, rows, {})
    return path


def trained_on(dataset: Path, **choice: object) -> list[int]:
    """The numbers of the clips; the same from the index and from a stream, which both count the others."""
    data = raw_data(dataset, **choice)
    store = ClipPairs(data, micro_model(), seed=0).store
    stream = StreamedSource(replace(data, source="stream"), micro_model(), 1, 0)
    assert (len(stream), stream.num_left_out) == (len(store), store.num_left_out)
    assert store.num_left_out == NUM_CLIPS - len(store)
    # What is scored does not depend on it.
    assert len(ClipAllPairs(data, micro_model())) == NUM_CLIPS
    return [int(key.removeprefix("clip").partition("_")[0]) for key in store.keys]


def test_clips_that_the_condition_keeps_are_trained_on(dataset: Path) -> None:
    assert trained_on(dataset, keep="CLIP_ID in ('clip003', 'clip008') or key like 'clip01%'") == [
        3,
        8,
        10,
        11,
    ]
    assert trained_on(dataset, keep="len(audio_gaps_s) = 0") == [clip for clip in range(12) if clip != 7]


def test_a_condition_may_use_scores_and_is_not_true_without_one(dataset: Path, scores: Path) -> None:
    assert trained_on(dataset, keep="match >= 0.6", scores=str(scores)) == [6, 7, 8, 9]


def test_a_condition_and_a_limit_of_gaps_hold_together(dataset: Path, scores: Path) -> None:
    chosen = {"keep": "match >= 0.6", "scores": str(scores), "max_gap_s": 0.1}
    assert trained_on(dataset, **chosen) == [6, 8, 9]


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (
            {"keep": "match > 0"},
            FilterError,
            r"data\.keep 'match > 0' chooses no clips: .*\"match\" not found",
        ),
        ({"keep": "duration > 1"}, FilterError, r"\"duration_s\".* the columns are key, clip_id"),
        (
            {"keep": "duration_s > 99"},
            DatasetError,
            r"data\.keep=duration_s > 99 leaves no clip of .* 12 clips",
        ),
        (
            {"keep": "true", "scores": "none.parquet"},
            ScoreFileError,
            r"data\.scores none\.parquet is not there",
        ),
    ],
)
def test_what_chooses_no_clip_is_refused(
    dataset: Path, choice: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ClipPairs(raw_data(dataset, **choice), micro_model(), seed=0)
    with pytest.raises(error, match=message):
        StreamedSource(raw_data(dataset, **choice, source="stream"), micro_model(), 1, 0)


def test_scores_without_a_condition_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scores=file\.parquet is used by keep, and there is none"):
        DataConfig(scores="file.parquet")
