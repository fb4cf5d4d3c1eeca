"""Proves that joined files are found and laid end to end, however short and whatever their clocks, and no other file."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from support.field.muxing import MUXINGS, FieldFolder

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.requests import EvenFrames, SegmentRequest
from cavsync.pipeline.decoding.span import read_segment
from cavsync.pipeline.media.backends.choice import open_media
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.duration import duration_s
from cavsync.pipeline.media.demuxing.timeline import open_container

# Seconds, and when the clock begins.
SOURCES = {"part": (6.0, 0.0), "late": (6.0, 5000.0), "short": (2.0, 0.0), "minute": (60.0, 0.0)}
JOINED = [
    ("part", "part"),
    ("part", "late"),
    ("late", "part"),  # FFmpeg takes the second clock for one that has wrapped around
    ("late", "late"),
    ("short", "minute"),
    ("minute", "short"),
    ("minute", "short", "minute"),
    5 * ("short",),
    12 * ("part",),
]
Content = Callable[[str, str], bytes]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """The bytes of a source in a container."""
    folder = tmp_path_factory.mktemp("parts")
    maker, made = FieldFolder(folder, folder / "sources"), dict[tuple[str, str], bytes]()

    def get(key: str, name: str) -> bytes:
        if (key, name) not in made:
            muxing, (seconds, begin_s) = MUXINGS[key], SOURCES[name]
            clock = ("-output_ts_offset", str(begin_s)) if begin_s else ()
            file = maker.converted(f"{name}_{key}", maker.source(seconds, muxing.fps), muxing, *clock)
            made[key, name] = file.path.read_bytes()
        return made[key, name]

    return get


def begins_s(path: Path) -> list[float]:
    """When the parts begin, seconds from the file's start."""
    with open_container(path, Deadline(60.0)) as container:
        return [part.begin_s - container.origin_s for part in container.timeline]


@pytest.mark.parametrize("key", ["ts_mp2", "mpg_mp2"])
@pytest.mark.parametrize("names", JOINED, ids="+".join)
def test_each_part_begins_where_the_one_before_ends(
    names: tuple[str, ...], key: str, content: Content, tmp_path: Path
) -> None:
    path = tmp_path / f"joined.{MUXINGS[key].suffix}"
    path.write_bytes(b"".join(content(key, name) for name in names))
    ends_s = list(accumulate(SOURCES[name][0] for name in names))
    assert begins_s(path) == pytest.approx([0.0, *ends_s[:-1]], abs=0.05)
    assert duration_s(path, 60.0) == pytest.approx(ends_s[-1], abs=0.1)


@pytest.mark.parametrize("key", ["mkv_flac", "webm_opus", "avi_pcm", "ogv"])
def test_files_that_declare_their_length_are_found_by_it(key: str, content: Content, tmp_path: Path) -> None:
    path = tmp_path / f"joined.{MUXINGS[key].suffix}"
    path.write_bytes(content(key, "part") + content(key, "short") + content(key, "part"))
    assert begins_s(path) == pytest.approx([0.0, 6.0, 8.0], abs=0.05)
    assert duration_s(path, 60.0) == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize("key", ["ts_mp2", "mpg_mp2", "mkv_flac", "avi_pcm", "ogv"])
def test_one_file_has_no_parts(key: str, content: Content, tmp_path: Path) -> None:
    path = tmp_path / f"one.{MUXINGS[key].suffix}"
    path.write_bytes(content(key, "part"))
    assert begins_s(path) == []


def test_a_joined_file_that_cannot_be_read_is_named(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "rubbish.mkv"
    path.write_bytes(content("mkv_flac", "part") + b"\x1a\x45\xdf\xa3" + bytes(5000))
    assert duration_s(path, 60.0) == pytest.approx(6.0, abs=0.1)
    segment = read_segment(SegmentRequest(path, 0.0, 10.0, EvenFrames(num_frames=8), 64))
    assert segment.end_s == pytest.approx(6.0, abs=0.1)
    assert segment.failure is not None
    assert "the file that was joined at byte" in segment.failure


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_a_decoder_that_opens_files_itself_refuses_joined_ones(
    decoder: str, content: Content, tmp_path: Path
) -> None:
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * content("ts_mp2", "part"))
    with pytest.raises(MediaError, match=r"joined.*--decoder pyav"), open_media(path, 60.0, decoder):  # type: ignore[arg-type]
        pass
