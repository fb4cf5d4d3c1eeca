"""A clip of every kind of file that decoders must time: codecs, containers, channels, rates, lengths, turns."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from support.media import GOOD_CLIPS, KnownClip, chirp, run_ffmpeg, write_clip

os.environ.setdefault("SVT_LOG", "1")  # errors only

SECONDS = 3.0
Recipe = Callable[[Path], KnownClip]


def of_kind(name: str, folder: Path, **writing: Any) -> KnownClip:
    return write_clip(folder / name, **{"duration_s": SECONDS} | writing)


def converted(name: str, folder: Path, *options: str, **known: Any) -> KnownClip:
    """A plain clip run through the ffmpeg program; `known` is what that changes of what it must show."""
    # Samples as they are: a codec's delay would shift both streams of a container without times.
    source = write_clip(folder / f"{name}.source.mkv", SECONDS, audio_codec="pcm_s16le")
    run_ffmpeg("-i", source.path, *options, folder / name)
    return replace(source, path=folder / name, **known)


def turned(degrees: int, folder: Path) -> KnownClip:
    """As a phone writes it: the frames lie on their side, and a matrix in the header gives the turn."""
    plain = of_kind(f"lying_{degrees}.mp4", folder)
    path = folder / f"turned_{degrees}.mp4"
    run_ffmpeg("-display_rotation", f"{degrees}", "-i", plain.path, "-c", "copy", path)
    return replace(plain, path=path, turned=degrees // 90)


def opposed_channels(layout: str, pan: str, folder: Path) -> KnownClip:
    """Only the first channel is the chirp; a mix of all is silence."""
    return converted(f"{layout}.mp4", folder, "-c:v", "copy", "-c:a", "aac", "-af", f"pan={layout}|{pan}")


def repeating_chirp(times_s: np.ndarray) -> np.ndarray:
    """The chirp of the first 10 s again and again; its pitch would soon be too high."""
    return chirp(np.mod(times_s, 10.0))


def two_minutes(folder: Path) -> KnownClip:
    """A whole upload, a keyframe every 25 s."""
    return write_clip(
        folder / "two_minutes.mp4",
        120.0,
        fps=10,
        size=(96, 72),
        audio=repeating_chirp,
        sample_rate=16000,
        video_options={"preset": "veryfast", "g": "250", "sc_threshold": "0", "bf": "2"},
    )


H264_B = ("-c:v", "libx264", "-bf", "2", "-b_strategy", "0")
SVT = {"preset": "8", "crf": "20", "svtav1-params": "lp=1"}
PCM = ("-c:a", "pcm_s16le")
# The file begins with what this encoder puts before the audio.
MP2_DELAY_S = 481 / 44100
FLAC = {"audio_codec": "flac"}

# What needs an encoder that a build of FFmpeg may lack: kind -> encoder.
NEEDS = {"hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1", "av1_mkv": "libsvtav1"}

KINDS: dict[str, Recipe] = {
    **GOOD_CLIPS,
    "hevc": partial(
        of_kind,
        "hevc.mp4",
        video_codec="libx265",
        video_options={"preset": "ultrafast", "x265-params": "log-level=none:pools=1:bframes=4"},
    ),
    "vp9": partial(
        of_kind,
        "vp9.webm",
        video_codec="libvpx-vp9",
        audio_codec="libopus",
        sample_rate=48000,
        video_options={"deadline": "realtime", "cpu-used": "8"},
    ),
    "av1": partial(of_kind, "av1.mp4", video_codec="libsvtav1", video_options=SVT),
    "av1_mkv": partial(
        of_kind,
        "av1.mkv",
        video_codec="libsvtav1",
        audio_codec="libopus",
        sample_rate=48000,
        video_options=SVT,
    ),
    "turned_90": partial(turned, 90),
    "turned_180": partial(turned, 180),
    "turned_270": partial(turned, 270),
    "mono": partial(of_kind, "mono.mp4"),
    "stereo": partial(opposed_channels, "stereo", "c0=c0|c1=-1*c0"),
    "surround": partial(
        opposed_channels, "5.1", "c0=c0|c1=-0.2*c0|c2=-0.2*c0|c3=-0.2*c0|c4=-0.2*c0|c5=-0.2*c0"
    ),
    "8_khz": partial(of_kind, "8_khz.mkv", sample_rate=8000, **FLAC),
    "16_khz": partial(of_kind, "16_khz.mkv", sample_rate=16000, **FLAC),
    "44_khz": partial(of_kind, "44_khz.mkv", sample_rate=44100, **FLAC),
    "48_khz": partial(of_kind, "48_khz.mkv", sample_rate=48000, **FLAC),
    "96_khz": partial(of_kind, "96_khz.mkv", sample_rate=96000, **FLAC),
    "short_audio": partial(of_kind, "short_audio.mp4", audio_stop_s=2.0),
    # The last frame stays on screen as long as there is audio.
    "long_audio": lambda folder: replace(
        of_kind("long_audio.mp4", folder, duration_s=2.0, audio_stop_s=SECONDS), duration_s=SECONDS
    ),
    "two_minutes": two_minutes,
    "mov": partial(of_kind, "clip.mov", audio_codec="pcm_s16le"),
    "mkv": partial(of_kind, "clip.mkv"),
    "avi_mpeg4": lambda folder: converted("mpeg4.avi", folder, "-c:v", "mpeg4", *PCM),
    "avi_mpeg4_b": lambda folder: converted("mpeg4_b.avi", folder, "-c:v", "mpeg4", "-bf", "2", *PCM),
    "avi_divx": lambda folder: converted("divx.avi", folder, "-c:v", "msmpeg4v3", *PCM),
    "avi_h264": lambda folder: converted("h264.avi", folder, *H264_B, *PCM),
    # A thumbnail of the film comes first; the film and its audio are streams 1 and 2.
    "two_videos": lambda folder: converted(
        "two_videos.mkv",
        folder,
        *("-map", "0:v", "-map", "0:v", "-map", "0:a", "-filter:v:0", "scale=40:30"),
        *("-c:v", "libx264", "-preset", "ultrafast", *PCM),
        *("-disposition:v:0", "0", "-disposition:v:1", "default"),
    ),
    "mpegts": lambda folder: converted(
        "clip.ts", folder, *H264_B, "-c:a", "mp2", source_start_s=-MP2_DELAY_S
    ),
}
