"""Proves that files of every kind and container are read as a player shows and plays them, by `prepare`, by the windows of
`embed` and by the segments of `eval synchrony --video`.

What is expected is arithmetic: the number of the frame on screen, the pitch of the chirp at each time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.field.audio_kinds import AUDIO_KINDS
from support.field.expected import FieldFile
from support.field.muxing import FieldFolder
from support.field.oracle import check_against_program
from support.field.reading import (
    PreparedFolder,
    check_clips,
    check_gaps,
    check_segments,
    check_windows,
    read_segments,
    read_windows,
)
from support.field.stream_kinds import STREAM_KINDS

from cavsync.pipeline.decoding.process import DecoderProcess

# The first test makes the files of all kinds and prepares them: 60 s of CPU.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

KINDS = STREAM_KINDS | AUDIO_KINDS
WITH_GAPS = [
    name
    for name in KINDS
    if name.startswith(("late_", "undecodable", "lost", "postponed", "many_frames_a_packet-wmv"))
]
# What the ffmpeg program fills by another rule: it repeats damaged frames and conceals damaged audio. It plays on past a
# join only in streams of broadcast.
NOT_WITH_PROGRAM = (
    "joined-mkv",
    "joined-avi",
    "joined-ogv",
    "joined_of_unknown_length",
    "undecodable",
    "one_undecodable",
    "lost_audio",
    "postponed",
    "constant_offset",
    "barely",
)
Files = Callable[[str], FieldFile]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("field")


@pytest.fixture(scope="module")
def files(folder: Path) -> Files:
    """The file of a kind, made when it is first wanted."""
    (folder / "videos").mkdir()
    made: dict[str, FieldFile] = {}
    maker = FieldFolder(folder / "videos", folder / "sources")

    def file(kind: str) -> FieldFile:
        if kind not in made:
            made[kind] = KINDS[kind](maker, kind)
        return made[kind]

    return file


@pytest.fixture(scope="module")
def prepared(files: Files, folder: Path) -> PreparedFolder:
    """All kinds in one dataset."""
    for kind in KINDS:
        files(kind)
    return PreparedFolder(folder / "videos", folder / "data")


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_clips_hold_what_a_player_shows_and_plays(kind: str, files: Files, prepared: PreparedFolder) -> None:
    check_clips(files(kind), prepared)


def test_every_file_is_listed(files: Files, prepared: PreparedFolder) -> None:
    listed = {Path(row["source"]).name for row in prepared.rows}
    assert not {files(kind).path.name for kind in KINDS} - listed


@pytest.mark.parametrize("kind", WITH_GAPS)
def test_the_index_names_what_is_not_there(kind: str, files: Files, prepared: PreparedFolder) -> None:
    check_gaps(files(kind), prepared)


def test_the_index_names_no_gap_of_a_whole_file(files: Files, prepared: PreparedFolder) -> None:
    for kind in KINDS:
        file = files(kind)
        rows = prepared.clips(file).values() if not file.audio_gaps_s and not file.frame_gaps_s else ()
        for row in rows:
            spans = [*(row["audio_gaps_s"] or ()), *(row["frame_gaps_s"] or ())]
            assert all(stop_s - start_s < file.gap_tolerance_s for start_s, stop_s in spans), kind


@pytest.mark.parametrize("kind", KINDS)
def test_windows_hold_what_a_player_shows_and_plays(kind: str, files: Files, decoder: DecoderProcess) -> None:
    file = files(kind)
    sliding, windows = read_windows(file, decoder)
    check_windows(file, sliding, windows)
    is_damaged = kind.startswith(("cut", "undecodable", "one_undecodable"))
    assert is_damaged or not sliding.damage


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("barely")])
def test_segments_hold_what_a_player_shows_and_plays(
    kind: str, files: Files, decoder: DecoderProcess
) -> None:
    check_segments(files(kind), read_segments(files(kind), decoder))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(NOT_WITH_PROGRAM)])
def test_clips_are_those_of_the_ffmpeg_program(kind: str, files: Files, prepared: PreparedFolder) -> None:
    check_against_program(files(kind), prepared)
