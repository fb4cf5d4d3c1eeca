"""Proves what the index says of how a file's frames are shown and which channel was stored, and that files of which only the
ffmpeg program knows the content, or which no muxer here writes, are read as it reads them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support.field.audio_kinds import AUDIO_KINDS, MIRRORS, variable_bit_rate
from support.field.expected import FieldFile, as_stored
from support.field.muxing import MUXINGS, SIZE, FieldFolder, Muxing, postponed, remuxed
from support.field.oracle import check_row_against_program
from support.field.reading import SIDE, DecodedClips, read_image, read_windows
from support.field.stream_kinds import SECONDS, STREAM_KINDS, late_beginning
from support.media import lag_s, read_frame_number, run_ffmpeg

from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import EvenFrames, SegmentRequest
from cavsync.pipeline.decoding.span import read_segment
from cavsync.pipeline.media.demuxing.duration import duration_s

SHOWN = [
    *(f"{how}-mp4" for how in MIRRORS),
    *(kind for kind in AUDIO_KINDS if kind.startswith("anamorphic")),
    "plain-3gp_aac",
    "turned_by_exif-mov_pcm",
]
SPEECH = {
    "3gp_amr": MUXINGS["3gp_amr"],
    "mkv_g726": Muxing("mkv", MUXINGS["3gp_amr"].video, "g726", rate_hz=8_000),
}
CHANNELS = [kind for kind in AUDIO_KINDS if kind.startswith("right_")]


@pytest.fixture
def maker(tmp_path: Path) -> FieldFolder:
    return FieldFolder(tmp_path, tmp_path / "sources")


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


@pytest.fixture
def clips(decoder: DecoderProcess) -> DecodedClips:
    return DecodedClips(decoder)


@pytest.mark.parametrize("kind", SHOWN)
def test_the_index_says_how_frames_are_shown(kind: str, maker: FieldFolder, clips: DecodedClips) -> None:
    file = (STREAM_KINDS | AUDIO_KINDS)[kind](maker, kind)
    row = clips.first_clip(file)
    assert row["orientation"] == file.orientation
    assert row["sample_aspect_ratio"] == pytest.approx(file.sample_aspect_ratio, rel=1e-3)
    assert (row["width"], row["height"]) == SIZE  # as coded


@pytest.mark.parametrize("kind", SHOWN)
def test_frames_that_are_not_cropped_have_the_shape_of_the_display(
    kind: str, maker: FieldFolder, clips: DecodedClips
) -> None:
    file = (STREAM_KINDS | AUDIO_KINDS)[kind](maker, kind)
    row = clips.first_clip(file, crop="none")
    wide, high = SIZE[0] * file.sample_aspect_ratio, float(SIZE[1])
    if file.orientation > 4:
        wide, high = high, wide
    scale = SIDE / min(wide, high)
    for number, image in enumerate(clips.images(row)):
        assert image.shape[:2] == pytest.approx((high * scale, wide * scale), abs=1)
        at_s = (number + 0.5) * row["duration_s"] / 16
        assert file.seen_in(image) == file.number(file.position_at(at_s))


@pytest.mark.parametrize("kind", CHANNELS)
def test_the_first_channel_is_the_first_that_is_not_silent(
    kind: str, maker: FieldFolder, clips: DecodedClips
) -> None:
    file = AUDIO_KINDS[kind](maker, kind)
    row = clips.first_clip(file)
    assert (row["audio_channel"], row["silent"]) == (1, False)
    assert clips.first_clip(file, audio_channel="mean")["audio_channel"] is None


def test_the_first_of_two_channels_with_audio_is_stored(maker: FieldFolder, clips: DecodedClips) -> None:
    both = maker.converted(
        "both", maker.source(4.0, 10), MUXINGS["mkv_flac"], "-af", "pan=stereo|c0=c0|c1=-1*c0"
    )
    row = clips.first_clip(both)
    assert (row["audio_channel"], row["num_channels"]) == (0, 2)


def test_the_duration_of_an_mp3_of_variable_bit_rate_is_that_of_its_samples(
    maker: FieldFolder, decoder: DecoderProcess
) -> None:
    file = variable_bit_rate(maker, "variable")
    sliding, windows = read_windows(file, decoder)
    assert sliding.duration_s == pytest.approx(40.0, abs=0.1)
    assert windows[-1].end_s == pytest.approx(40.0, abs=0.1)
    assert sliding.damage == []


@pytest.mark.parametrize("key", ["mkv_flac", "webm_opus", "asf", "flv_aac", "ts_aac"])
def test_a_file_whose_times_begin_late_lasts_as_long_as_any_other(key: str, maker: FieldFolder) -> None:
    file = late_beginning(MUXINGS[key], maker, "late")
    assert duration_s(file.path, 60.0) == pytest.approx(file.end_s, abs=0.1)


def test_frames_without_times_at_the_beginning_do_not_cost_the_others(maker: FieldFolder) -> None:
    """Matroska cannot say the times before 0 s, which these frames have."""
    source = maker.source(6.0, 10)
    path = maker.folder / "negative.mkv"
    run_ffmpeg("-itsoffset", "-1.5", "-i", source.path, "-c", "copy", "-avoid_negative_ts", "disabled", path)
    with av.open(str(path)) as media:
        begin_s = media.start_time / av.time_base
    segment = read_segment(SegmentRequest(path, 0.0, 5.0, EvenFrames(num_frames=8), SIDE))
    assert len(segment.shown) == 8
    for at_s, image in segment.shown:
        assert read_frame_number(read_image(image)) == pytest.approx((at_s + begin_s + 1.5) * 10, abs=0.5)


@pytest.mark.parametrize("key", ["ts_aac", "ts_mp2", "mpg_mp2"])
def test_frames_and_audio_of_joined_files_are_of_the_same_part(key: str, maker: FieldFolder) -> None:
    """The times begin anew in the second part, whose frames are inverted and whose audio is softer."""
    muxing = MUXINGS[key]
    first, second = (
        maker.converted(name, maker.source(6.0, muxing.fps), muxing, "-vf", video, "-af", audio)
        for name, video, audio in (("first", "null", "anull"), ("second", "negate", "volume=0.25"))
    )
    parts = [
        read_segment(SegmentRequest(one.path, 1.5, 4.0, EvenFrames(num_frames=8), SIDE))
        for one in (first, second)
    ]
    first.path.write_bytes(first.path.read_bytes() + second.path.read_bytes())
    for number, part in enumerate(parts):
        at_s = 1.5 + 6.0 * number  # a multiple of a frame's duration
        joined = read_segment(SegmentRequest(first.path, at_s, 4.0, EvenFrames(num_frames=8), SIDE))
        loud = [np.abs(one.waveform[8_000:40_000]).max() for one in (joined, part)]
        assert loud[0] == pytest.approx(loud[1], rel=0.05)
        for (_, image), (_, other) in zip(joined.shown, part.shown, strict=True):
            assert np.abs(read_image(image).astype(float) - read_image(other)).mean() < 30


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ("-c:v", "libx264", "-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov")),
        (".nut", ("-c:v", "libx264", "-c:a", "aac")),
        (".rm", ("-c:v", "rv10", "-c:a", "ac3")),
    ],
)
def test_parts_of_a_joined_file_that_is_not_recognised_are_not_mixed(
    suffix: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """The first part is red and loud, the second one blue and soft."""
    joined = tmp_path / f"joined{suffix}"
    for colour, volume in (("red", 1.0), ("blue", 0.1)):
        video, audio = f"color={colour}:s=176x144:r=25:d=12", f"sine=440:r=44100:d=12,volume={volume}"
        path = tmp_path / f"{colour}{suffix}"
        run_ffmpeg("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", audio, "-g", "25", *options, path)
        with joined.open("ab") as file:
            file.write(path.read_bytes())
    for at_s in (0.0, 5.0, 8.0):
        segment = read_segment(SegmentRequest(joined, at_s, 4.0, EvenFrames(num_frames=4), SIDE))
        is_loud = np.abs(segment.waveform).max() > 0.05
        for _, image in segment.shown:
            red, _, blue = read_image(image).reshape(-1, 3).mean(axis=0)
            assert (red > blue) == is_loud


@pytest.mark.parametrize("first", [5, 1], ids=["last_frame", "all_but_the_first"])
def test_frames_that_claim_to_be_shown_in_a_century_end_the_file(
    first: int, maker: FieldFolder, decoder: DecoderProcess
) -> None:
    """Ten minutes at most are believed."""
    source, century_s = maker.source(SECONDS, 10), 3e9

    def change(kind: str, time_s: float, packet: Any) -> Any:
        if kind == "audio" or time_s > 0.55:
            return None
        return packet if time_s < first / 10 - 0.05 else postponed(packet, century_s)

    path = maker.folder / "century.nut"
    remuxed(source.path, str(path), change)
    file = FieldFile(path=path, frame_times_s=(0.0,), end_s=0.6)
    sliding, windows = read_windows(file, decoder)
    assert len(windows) < 2500
    assert sliding.duration_s < 700
    assert windows[0].frame is not None


@pytest.mark.parametrize("key", ["3gp_amr", "mkv_g726"])
def test_audio_after_a_seek_is_that_of_the_whole_file(key: str, maker: FieldFolder) -> None:
    """Decoders of speech adapt to what came before, so they must begin well before the wanted audio."""
    options = ("-g", "3", "-b:a", "4750") if key == "3gp_amr" else ("-g", "3")
    check_audio_after_a_seek(maker.converted("speech", maker.source(8.0, 10), SPEECH[key], *options).path)


def test_audio_of_mp3_of_a_low_bit_rate_after_a_seek_is_that_of_the_whole_file(maker: FieldFolder) -> None:
    """The bits of a frame lie in many frames before it."""
    path = maker.folder / "low.mp3"
    run_ffmpeg("-i", maker.source(8.0, 10).path, "-map", "0:a", "-ar", "16000", "-b:a", "16k", path)
    check_audio_after_a_seek(path)


def test_audio_of_opus_that_is_thrown_away_at_first_is_there_after_a_seek(maker: FieldFolder) -> None:
    """Its header says that a decoder gives nothing of the first 0.512 s, wherever it begins."""
    muxing = replace(MUXINGS["mp4_aac"], audio="libopus", rate_hz=48_000)
    path = maker.converted("opus", maker.source(8.0, 10), muxing, "-g", "3").path
    content = path.read_bytes()
    at = content.index(b"dOps") + 6  # version, number of channels, then the samples
    path.write_bytes(content[:at] + (24_576).to_bytes(2, "big") + content[at + 2 :])
    check_audio_after_a_seek(path)


def test_audio_of_24_bits_of_a_dvd_after_a_seek_is_no_noise(maker: FieldFolder) -> None:
    """Its samples lie across packets, and none says where they begin."""
    muxing = Muxing("vob", MUXINGS["mpg_mp2"].video, "pcm_dvd", fps=25, rate_hz=48_000)
    path = maker.converted("dvd", maker.source(8.0, 25), muxing, "-sample_fmt", "s32").path
    whole = read_segment(SegmentRequest(path, 0.0, 8.0, None)).waveform
    part = read_segment(SegmentRequest(path, 4.7, 3.0, None)).waveform
    assert abs(lag_s(part, whole[round(4.7 * 16_000) :][: len(part)], 16_000)) < 0.01
    assert np.abs(part).max() == pytest.approx(np.abs(whole).max(), abs=0.02)


def check_audio_after_a_seek(path: Path) -> None:
    request = partial(SegmentRequest, path, frames=None, frame_size=SIDE)
    whole = read_segment(request(start_s=0.0, duration_s=8.0)).waveform
    for start_s in (2.4, 3.1, 4.7):
        part = read_segment(request(start_s=start_s, duration_s=3.0)).waveform
        expected = whole[round(start_s * 16_000) :][: len(part)]
        # Away from the edges, where the resampler's filter ends.
        assert np.abs(part - expected)[100:-100].max() < 0.02, start_s


def test_an_avi_whose_header_counts_late_audio_twice_lasts_as_long_as_its_packets(
    maker: FieldFolder, decoder: DecoderProcess
) -> None:
    source, path = maker.source(8.0, 10), maker.folder / "late.avi"
    late = ("-i", source.path, "-itsoffset", "3", "-i", source.path, "-map", "0:v", "-map", "1:a")
    run_ffmpeg(*late, "-c:v", "mpeg4", "-c:a", "libmp3lame", path)
    assert duration_s(path, 60.0) == pytest.approx(8.0, abs=0.1)
    sliding, windows = read_windows(FieldFile(path=path, frame_times_s=(0.0,), end_s=8.0), decoder)
    assert windows[-1].end_s == pytest.approx(8.0, abs=0.1)
    assert sliding.damage == []


def test_a_seek_into_the_middle_of_a_packet_is_no_damage(maker: FieldFolder, decoder: DecoderProcess) -> None:
    file = maker.converted("twice", maker.source(24.0, 25), MUXINGS["mpg_mp2"])
    file.path.write_bytes(2 * file.path.read_bytes())
    sliding, windows = read_windows(file, decoder)
    assert windows[-1].end_s == pytest.approx(48.0, abs=0.1)
    assert sliding.damage == []


# Files of which only the program knows the content


def wrong_times(maker: FieldFolder, name: str) -> Path:
    """H.264 with frames out of order, each stamped with its decoding time."""
    muxing = replace(
        MUXINGS["flv_aac"], video=("-c:v", "libx264", "-bf", "2", "-b_strategy", "0", "-g", "10")
    )
    return maker.converted(name, maker.source(6.0, 10), muxing, "-bsf:v", "setts=pts=DTS:dts=DTS").path


def torn(key: str, maker: FieldFolder, name: str) -> Path:
    """The middle of a longer file, cut at any byte, as a broadcast is recorded."""
    muxing = MUXINGS[key]
    path = maker.converted(name, maker.source(10.0, muxing.fps), muxing, "-g", str(muxing.fps)).path
    content = path.read_bytes()
    path.write_bytes(content[len(content) * 23 // 100 + 1 : len(content) * 71 // 100 + 3])
    return path


def without_first_keyframe(key: str, maker: FieldFolder, name: str) -> Path:
    """The frames before the second keyframe cannot be decoded, as where a stream was cut without regard to them."""
    muxing = MUXINGS[key]
    whole = maker.converted(f"{name}_whole", maker.source(6.0, muxing.fps), muxing, "-g", str(2 * muxing.fps))
    path = maker.folder / f"{name}.{muxing.suffix}"
    remuxed(
        whole.path, str(path), lambda kind, at_s, packet: None if kind == "video" and at_s < 0.25 else packet
    )
    return path


PROGRAM_KINDS: dict[str, Callable[[FieldFolder, str], Path]] = {
    "wrong_times-flv_aac": wrong_times,
    **{f"torn-{key}": partial(torn, key) for key in ("ts_mp2", "ts_aac", "mpg_mp2")},
    **{f"without_first_keyframe-{key}": partial(without_first_keyframe, key)
       for key in ("ts_aac", "mkv_flac", "flv_aac", "avi_pcm")},
}  # fmt: skip


@pytest.mark.parametrize("kind", PROGRAM_KINDS)
def test_a_clip_of_unknown_content_is_that_of_the_ffmpeg_program(
    kind: str, maker: FieldFolder, clips: DecodedClips
) -> None:
    # Where times contradict each other, the program's guess is one of several.
    check_unknown(PROGRAM_KINDS[kind](maker, kind), clips, 0.2 if kind.startswith("wrong") else 0.0)


@pytest.mark.real
@pytest.mark.parametrize("name", ["amr_nb_sound_first.3gp", "jittered_aac.mp4"])
def test_a_real_file_that_was_refused_is_that_of_the_ffmpeg_program(
    name: str, clips: DecodedClips, decoder: DecoderProcess, tmp_path: Path
) -> None:
    if "CAVSYNC_REAL_DATA" not in os.environ:
        pytest.skip("CAVSYNC_REAL_DATA names no folder of real clips")
    content = (Path(os.environ["CAVSYNC_REAL_DATA"]) / "faults" / name).read_bytes()
    (tmp_path / name).write_bytes(content)  # the program writes beside it
    file = check_unknown(tmp_path / name, clips)
    sliding, windows = read_windows(file, decoder)
    assert not sliding.damage
    assert all(window.mel is not None and window.frame is not None for window in windows[:-1])


def check_unknown(path: Path, clips: DecodedClips, apart_s: float = 0.0) -> FieldFile:
    file = FieldFile(path=path, frame_times_s=(0.0,), end_s=10.0, upright=as_stored)
    row = clips.first_clip(file)
    assert row["state"] == "ok", row["reason"]
    check_row_against_program(file, 0.0, row, clips, apart_s)
    assert row["frame_pts_s"] == sorted(row["frame_pts_s"])
    assert np.isfinite(clips.mel(row)).all()
    return file
