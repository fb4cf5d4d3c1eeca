"""Proves that where packets lie in a file, begin, are missing, or are stamped a little off changes nothing of what is read:
frames and log-mel are those of the plain file at the same times.

CAVSYNC_NUM_EXAMPLES sets how many files are tried; the same ones are every time.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from support.field.any_file import AnyFileMaker, FileChoices, file_choices
from support.field.expected import FieldFile
from support.field.reading import DecodedClips, check_clip, check_clip_gaps, check_windows, read_windows

from cavsync.pipeline.decoding.process import DecoderProcess

NUM_EXAMPLES = int(os.environ.get("CAVSYNC_NUM_EXAMPLES", "30"))
PLAIN = FileChoices("mkv", False, 0.0, False, 0, None, 0.0, (), ())


class Reader:
    """Makes files and reads them, and knows what the plain one holds."""

    def __init__(self, folder: Path, decoder: DecoderProcess) -> None:
        self.maker, self.decoder, self.clips = AnyFileMaker(folder), decoder, DecodedClips(decoder)
        plain = self.maker.file(PLAIN)
        row = self.clips.first_clip(plain)
        check_clip(plain, 0.0, row, self.clips)
        self.plain_mel = self.clips.mel(row)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with DecoderProcess() as decoder:
        yield Reader(tmp_path_factory.mktemp("any"), decoder)


@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(choices=file_choices())
def test_a_file_is_read_as_the_plain_one(choices: FileChoices, reader: Reader) -> None:
    file = reader.maker.file(choices)
    try:
        row = reader.clips.first_clip(file)
        assert row["state"] == "ok", row["reason"]
        check_clip(file, 0.0, row, reader.clips)
        check_loudness(file, reader.clips.mel(row), reader.plain_mel)
        check_clip_gaps(file, 0.0, row)
        check_windows(file, *read_windows(file, reader.decoder))
    finally:
        file.path.unlink()


def check_loudness(file: FieldFile, mel: np.ndarray, plain: np.ndarray) -> None:
    """Both (rows, 128): outside gaps the loudest band of each row is as loud as the plain file's."""
    count = min(len(mel), len(plain)) - 10
    times_s = np.arange(10, count) / 100
    kept = np.ones(len(times_s), bool)
    for start_s, stop_s in file.audio_gaps_s:
        kept &= (times_s < start_s - 0.1) | (times_s > stop_s + 0.1)
    apart = np.abs(mel[10:count].max(axis=1) - plain[10:count].max(axis=1).astype(np.float64))
    assert np.quantile(apart[kept], 0.98) < 0.3
