"""Proves that leaving packets undecoded changes no frame: those that nothing refers to, and the ends of closed groups."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from support.media import write_clip

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.media.backends.choice import open_media
from cavsync.pipeline.media.backends.pyav import PyAvDecoder
from cavsync.pipeline.media.closed_groups import ClosedGroups
from cavsync.pipeline.media.decode import DecodedClip
from cavsync.pipeline.media.frame_selection import CAN_SKIP

FPS, SECONDS = 10, 6.0
X264 = "keyint=20:scenecut=0:b-adapt=0"
X265 = "log-level=none:pools=1:keyint=20:min-keyint=20:scenecut=0:b-adapt=0"
# Encoder, suffix, parameters.
STREAMS = {
    "h264_closed": ("libx264", "mp4", f"{X264}:bframes=3"),
    "h264_open": ("libx264", "mp4", f"{X264}:bframes=3:open-gop=1"),
    "h264_refreshed_by_columns": ("libx264", "mp4", f"{X264}:bframes=0:intra-refresh=1"),
    "h264_in_slices": ("libx264", "mkv", f"{X264}:bframes=3:slices=4"),
    "h264_closed_with_start_codes": ("libx264", "ts", f"{X264}:bframes=3"),
    "h264_open_with_start_codes": ("libx264", "ts", f"{X264}:bframes=3:open-gop=1"),
    "hevc_closed": ("libx265", "mp4", f"{X265}:bframes=4:open-gop=0"),
    "hevc_open": ("libx265", "mkv", f"{X265}:bframes=4:open-gop=1"),
    "hevc_open_with_start_codes": ("libx265", "ts", f"{X265}:bframes=4:open-gop=1"),
}
# Stored in the order in which they are shown, in three groups of 20 frames.
IN_ORDER = {
    "h264": ("libx264", "mp4", f"{X264}:bframes=0"),
    "h264_with_start_codes": ("libx264", "ts", f"{X264}:bframes=0"),
    "hevc": ("libx265", "mp4", f"{X265}:bframes=0:open-gop=0"),
    "hevc_with_start_codes": ("libx265", "ts", f"{X265}:bframes=0:open-gop=0"),
}


def written(folder: Path, encoder: str, suffix: str, parameters: str) -> Path:
    options = {f"{encoder[3:]}-params": parameters, "preset": "veryfast"} if parameters else {"g": "20"}
    path = folder / f"clip.{suffix}"
    write_clip(path, SECONDS, FPS, (96, 72), video_codec=encoder, video_options=options)
    return path


def decode(path: Path, num_frames: int = 16) -> DecodedClip:
    with open_media(path, 60.0) as media:
        return media.decode(0.0, SECONDS, PrepareConfig(num_frames=num_frames))


@pytest.mark.parametrize("stream", STREAMS)
def test_skipping_packets_changes_no_byte(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, *STREAMS[stream])
    skipping = [decode(path, num_frames) for num_frames in (2, 7)]
    monkeypatch.setattr("cavsync.pipeline.media.backends.pyav.CAN_SKIP", CAN_SKIP - {"h264", "hevc"})
    for one, plain in zip(skipping, [decode(path, num_frames) for num_frames in (2, 7)], strict=True):
        assert one.frames == plain.frames
        assert one.frame_pts_s.tolist() == plain.frame_pts_s.tolist()


def needed_of(path: Path, wanted: list[int]) -> tuple[list[int], list[int]]:
    """The numbers of the packets that the frames of those packets need, and of the keyframes."""
    with av.open(str(path)) as media:
        video = media.streams.video[0]
        packets = [packet for packet in media.demux(video) if packet.size]
        times_s = {float(packets[n].pts * video.time_base) for n in wanted}
        needed = [packets.index(packet) for packet in ClosedGroups(video).needed(packets, times_s)]
        return needed, [n for n, packet in enumerate(packets) if packet.is_keyframe]


@pytest.mark.parametrize("stream", IN_ORDER)
def test_the_ends_of_closed_groups_are_left_out(stream: str, tmp_path: Path) -> None:
    needed, keyframes = needed_of(written(tmp_path, *IN_ORDER[stream]), [3, 7, 45])
    assert keyframes == [0, 20, 40]
    # One more each: it may be the second field of the frame. The keyframe may bring parameters.
    assert needed == [*range(9), 20, 21, *range(40, 47)]


@pytest.mark.parametrize("stream", ["h264_open", "h264_open_with_start_codes", "hevc_open"])
def test_open_groups_are_whole_up_to_the_last_wanted_frame(stream: str, tmp_path: Path) -> None:
    needed, keyframes = needed_of(written(tmp_path, *STREAMS[stream]), [3, 45])
    assert len(keyframes) == 3
    assert needed == [*range(47)]


def test_packets_before_parameters_that_come_alone_are_kept(tmp_path: Path) -> None:
    """Later groups may need the parameters."""
    path = written(tmp_path, *STREAMS["h264_open_with_start_codes"])
    needed, keyframes = needed_of(path, [3])
    assert len(keyframes) == 3
    assert needed == [*range(60)]


def test_frames_that_are_dropped_while_others_are_skipped_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that understates how far its frames are out of order makes a decoder drop some that it was asked for."""
    path = written(tmp_path, *STREAMS["h264_closed"])
    plain, images = decode(path), PyAvDecoder._images

    def dropping(self: PyAvDecoder, needed_s: set[float] | None = None) -> Iterator[av.VideoFrame]:
        dropped_s = set() if needed_s is None else set(sorted(needed_s)[3::4])
        yield from (image for image in images(self, needed_s) if image.time not in dropped_s)

    monkeypatch.setattr(PyAvDecoder, "_images", dropping)
    dropped = decode(path)
    assert dropped.frames == plain.frames
    assert dropped.frame_pts_s.tolist() == plain.frame_pts_s.tolist()
