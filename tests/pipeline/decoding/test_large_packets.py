"""Proves that video packets that are too large to be held in memory are decoded as if they were held."""

from pathlib import Path

import pytest
from support.field.muxing import MUXINGS, FieldFolder, Muxing

from cavsync.pipeline.decoding.requests import EvenFrames, SegmentRequest
from cavsync.pipeline.decoding.span import read_segment
from cavsync.pipeline.media.demuxing import coded_span

DV = Muxing(
    "dv", ("-vf", "scale=720:576", "-pix_fmt", "yuv420p", "-c:v", "dvvideo"), "pcm_s16le", 25, rate_hz=48_000
)
KINDS = {key: MUXINGS[key] for key in ("mov_pcm", "mkv_flac", "avi_pcm", "ts_aac", "mpg_mp2")} | {"dv": DV}


@pytest.mark.parametrize("start_s", [0.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_do_not_depend_on_whether_their_packets_are_held(
    kind: str, start_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audio that the demuxer gives with the frames is not decoded as video."""
    maker = FieldFolder(tmp_path, tmp_path / "sources")
    file = maker.converted("whole", maker.source(4.0, KINDS[kind].fps), KINDS[kind], "-ac", "2")
    request = SegmentRequest(file.path, start_s, 1.5, EvenFrames(num_frames=8))
    held = read_segment(request)
    monkeypatch.setattr(coded_span, "MOST_HELD_BYTES", 1000)
    read_again = read_segment(request)
    assert len(held.shown) == 8
    assert read_again.shown == held.shown
    assert (read_again.failure, read_again.frame_gaps_s) == (held.failure, [])
