"""Damaged copies of files of every container: cut off, with flipped bits, missing or overwritten pieces, huge numbers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from support.media import KnownClip
from support.media_kinds import converted, of_kind

COPIES = 64  # of each container, 8 of each damage
FEW_COPIES = 16  # of the other containers


def mp4(folder: Path) -> KnownClip:
    return of_kind("whole.mp4", folder, duration_s=1.6, fps=10)


def mkv(folder: Path) -> KnownClip:
    return of_kind("whole.mkv", folder, duration_s=1.6, fps=10, audio_codec="libopus", sample_rate=48000)


def webm(folder: Path) -> KnownClip:
    options = {"deadline": "realtime", "cpu-used": "8"}
    codecs: dict[str, Any] = {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "sample_rate": 48000}
    return of_kind("whole.webm", folder, duration_s=1.6, fps=10, video_options=options, **codecs)


def mov(folder: Path) -> KnownClip:
    return converted("whole.mov", folder, "-c:v", "mjpeg", "-t", "1.6", "-r", "10", "-c:a", "pcm_s16le")


def avi(folder: Path) -> KnownClip:
    return converted("whole.avi", folder, "-c:v", "mpeg4", "-t", "1.6", "-r", "10", "-c:a", "libmp3lame")


Random = np.random.Generator


def cut_off(content: bytearray, random: Random) -> None:
    del content[int(random.integers(len(content))) :]


def flipped_bits(content: bytearray, random: Random) -> None:
    for offset in random.integers(len(content), size=100):
        content[offset] ^= 1 << int(random.integers(8))


def flipped_header_bits(content: bytearray, random: Random) -> None:
    for offset in random.integers(min(1500, len(content)), size=12):
        content[offset] ^= 1 << int(random.integers(8))


def missing_piece(content: bytearray, random: Random) -> None:
    offset = int(random.integers(len(content)))
    del content[offset : offset + 3000]


def zeros(content: bytearray, random: Random) -> None:
    offset = int(random.integers(len(content)))
    content[offset : offset + 2000] = bytes(len(content[offset : offset + 2000]))


def huge_numbers(content: bytearray, random: Random) -> None:
    offset = int(random.integers(min(1500, len(content))))
    content[offset : offset + 8] = bytes([255, 0, 127, 255] * 2)


def huge_fields(content: bytearray, random: Random) -> None:
    """Sizes, durations and rates, wherever the header has them in either byte order."""
    numbers = [(160, 120), (120, 160), (44100,), (48000,), (1600,), (16000,), (1000,)]
    chosen = numbers[int(random.integers(len(numbers)))]
    for width in (2, 4):
        for order in ("big", "little"):
            field = b"".join(number.to_bytes(width, order) for number in chosen)  # type: ignore[arg-type]
            content[:] = content.replace(field, b"\x7f" + b"\xff" * (len(field) - 1))


def huge_frames(content: bytearray, random: Random) -> None:
    """Coded frames that claim 65535 x 65535 pixels, in JPEG's and VP9's own headers; for others, at any offset."""
    for mark, gap in ((b"\xff\xc0\x00\x11\x08", 0), (b"\x49\x83\x42", 1)):
        offset = content.find(mark)
        while offset >= 0:
            start = offset + len(mark) + gap
            content[start : start + 4] = b"\xff" * 4
            offset = content.find(mark, start)
    flipped_header_bits(content, random)


DAMAGES: list[Callable[[bytearray, Random], None]] = [
    cut_off,
    flipped_bits,
    flipped_header_bits,
    missing_piece,
    zeros,
    huge_numbers,
    huge_fields,
    huge_frames,
]


def damaged_copies(whole: KnownClip, folder: Path, copies: int = COPIES) -> list[Path]:
    paths = []
    for seed in range(copies):
        random = np.random.default_rng(seed)
        content = bytearray(whole.path.read_bytes())
        DAMAGES[seed % len(DAMAGES)](content, random)
        paths.append(folder / f"{DAMAGES[seed % len(DAMAGES)].__name__}_{seed}{whole.path.suffix}")
        paths[-1].write_bytes(content)
    return paths


def recorded(suffix: str, video: str, audio: str, folder: Path) -> KnownClip:
    """25 frames a second, which every codec of broadcasts takes."""
    coding = ("-c:v", video, "-q:v", "4", "-t", "1.6", "-c:a", audio)
    return converted(f"whole.{suffix}", folder, *coding)


CONTAINERS: list[Callable[[Path], KnownClip]] = [mp4, mkv, webm, mov, avi]
OTHER_CONTAINERS = {
    "ts": partial(recorded, "ts", "mpeg2video", "mp2"),
    "mpg": partial(recorded, "mpg", "mpeg2video", "mp2"),
    "flv": partial(recorded, "flv", "flv", "libmp3lame"),
    "wmv": partial(recorded, "wmv", "wmv2", "wmav2"),
    "ogv": partial(recorded, "ogv", "libtheora", "libvorbis"),
}
