"""Proves with PyAV that the clips of support/media.py hold the frames and the audio that other tests expect."""

from collections.abc import Callable

import av
import numpy as np
import pytest
from PIL import Image
from support.media import BAD_CLIPS, GOOD_CLIPS, KnownClip, chirp, lag_s, numbered_frame, read_frame_number

RATE_HZ = 44100


def read_numbers(clip: KnownClip) -> tuple[list[float], list[int]]:
    """Times after the file's start, and numbers, of every frame that is shown."""
    with av.open(str(clip.path)) as container:
        start_s = (container.start_time or 0) / 1e6
        shown = [
            (frame.time - start_s, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    return [time_s for time_s, _ in shown], [read_frame_number(image) for _, image in shown]


def read_audio(clip: KnownClip) -> tuple[float, np.ndarray]:
    """Time of the first sample after the file's start, and the samples."""
    with av.open(str(clip.path)) as container:
        start_s = (container.start_time or 0) / 1e6
        frames = list(container.decode(audio=0))
    return frames[0].time - start_s, np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize("name", GOOD_CLIPS)
def test_every_frame_shows_the_number_of_its_time(name: str, known_clip: Callable[[str], KnownClip]) -> None:
    clip = known_clip(name)
    times_s, numbers = read_numbers(clip)
    # Time stamps are rounded, so ask 1 ms into each frame.
    assert numbers == [clip.frame_number_at(time_s + 1e-3) for time_s in times_s]
    assert times_s[-1] == pytest.approx(clip.duration_s, abs=0.12)


@pytest.mark.parametrize("name", GOOD_CLIPS)
def test_the_chirp_is_on_the_clock_of_the_frames(name: str, known_clip: Callable[[str], KnownClip]) -> None:
    clip = known_clip(name)
    first_s, audio = read_audio(clip)
    expected = chirp(clip.source_start_s + first_s + np.arange(len(audio)) / RATE_HZ)
    assert first_s == pytest.approx(clip.audio_start_s, abs=0.03)
    assert lag_s(audio, expected, RATE_HZ) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["edit_list", "edit_list_b_frames"])
def test_cuts_hide_a_hundred_frames(name: str, known_clip: Callable[[str], KnownClip]) -> None:
    with av.open(str(known_clip(name).path)) as container:
        hidden = sum(packet.is_discard for packet in container.demux(video=0))
    assert hidden == 100


@pytest.mark.parametrize("number", [0, 1, 0b1010_0101_1100_0011, 65535])
def test_a_number_survives_resize_and_crop(number: int) -> None:
    image = Image.fromarray(numbered_frame(number, (160, 120))).resize((299, 224)).crop((37, 0, 261, 224))
    assert read_frame_number(np.asarray(image)) == number


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_bad_clips_cannot_give_both_streams(name: str, known_clip: Callable[[str], KnownClip]) -> None:
    clip = known_clip(name)
    with pytest.raises((av.error.InvalidDataError, IndexError)):
        read_numbers(clip), read_audio(clip)
