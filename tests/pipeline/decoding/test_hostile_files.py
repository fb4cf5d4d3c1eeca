"""Proves that broken, hostile, very large and very long files end in a state, within their time and memory.

Each batch is prepared in one process of its own: a crash loses the rest of its answers, and its peak memory is
known at the end.
"""

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.media import KnownClip, run_ffmpeg, write_clip
from support.media_kinds import converted, of_kind

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import SlidingWindows, Window, WindowSpec

# What DESIGN calls the memory of a worker.
WORKER_MIB = 150
# The frames that a 4K codec keeps for itself, to predict others from: at most 8 of 12 MiB.
PICTURES_4K_MIB = 8 * 12
COPIES = 64  # of each container, 8 of each damage

# Prints the state and reason of every file given, or its gaps, then the peak of its memory.
PROGRAM = r"""
import json, re, sys
from pathlib import Path
from cavsync.pipeline.decoding.clip import prepare_clip
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.plan_row import PlanRow
config = PrepareConfig(decoder=sys.argv[1], clip_timeout_s=20.0)
for source in sys.stdin.read().splitlines():
    times = {"source_start_s": 0.0, "start_s": 0.0, "end_s": 10.0}
    row = PlanRow(key="clip", clip_id="clip", split="train", shard="train-00000", source=source, **times)
    clip = prepare_clip(row, config)
    facts = clip.row.clip
    gaps = [*facts.audio_gaps_s, *facts.frame_gaps_s] if facts else []
    print(json.dumps([source, clip.state, clip.row.reason or (f"gaps {gaps}" if gaps else None)]), flush=True)
# Not ru_maxrss, which begins with the memory of the process that started this one.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""

Answers = dict[Path, tuple[str, str | None]]


def prepared(paths: list[Path], decoder: str = "pyav") -> tuple[Answers, float]:
    """What became of each file, and the peak memory in MiB."""
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, decoder]
    given = "\n".join(map(str, paths))
    done = subprocess.run(command, check=False, input=given, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"after {done.stdout[-300:]}: {done.stderr[-2000:]}"
    *lines, peak_mib = done.stdout.splitlines()
    answers = {Path(source): (state, reason) for source, state, reason in map(json.loads, lines)}
    assert list(answers) == paths
    return answers, float(peak_mib)


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


def damaged_copies(whole: KnownClip, folder: Path) -> list[Path]:
    paths = []
    for seed in range(COPIES):
        random = np.random.default_rng(seed)
        content = bytearray(whole.path.read_bytes())
        DAMAGES[seed % len(DAMAGES)](content, random)
        paths.append(folder / f"{DAMAGES[seed % len(DAMAGES)].__name__}_{seed}{whole.path.suffix}")
        paths[-1].write_bytes(content)
    return paths


CONTAINERS = [mp4, mkv, webm, mov, avi]
SPEC = WindowSpec(rows=32, step_rows=16, side=32)


@pytest.mark.parametrize("container", CONTAINERS)
def test_damaged_copies_end_in_a_state(container: Callable[[Path], KnownClip], tmp_path: Path) -> None:
    whole = container(tmp_path)
    answers, peak_mib = prepared([whole.path, *damaged_copies(whole, tmp_path)])
    states = Counter(state for state, _ in answers.values())
    assert answers[whole.path] == ("ok", None)
    assert set(states) <= {"ok", "decode_error", "no_audio", "no_video", "too_short"}
    damaged = Counter(reason is not None for _, reason in answers.values())
    assert damaged[True] >= 8, "damage has a state, or a gap that is named"
    assert states["decode_error"]
    assert peak_mib < WORKER_MIB
    assert all(reason for state, reason in answers.values() if state != "ok")


@pytest.mark.parametrize("container", CONTAINERS)
def test_damaged_copies_give_windows_or_a_reason(
    container: Callable[[Path], KnownClip], tmp_path: Path
) -> None:
    whole = container(tmp_path)
    reasons: dict[Path, str | None] = {}
    lost = []
    with DecoderProcess() as decoder:
        for path in (whole.path, *damaged_copies(whole, tmp_path)):
            try:
                for batch in SlidingWindows(path, SPEC, decoder):
                    for window in batch:
                        check_window(window)
                    reasons[path] = None
            except MediaError as error:
                lost += [path.name] * (error.state in (ClipState.CRASHED, ClipState.TIMEOUT))
                reasons[path] = error.reason
    assert not lost
    assert reasons[whole.path] is None
    assert len(reasons) == COPIES + 1, "a file gave neither a window nor a reason"
    assert "" not in reasons.values()
    assert Counter(reason is None for reason in reasons.values())[False] >= 8


def check_window(window: Window) -> None:
    """Whatever was read is a frame or none, and a log-mel or none."""
    assert (window.frame is None) == (window.frame_s is None)
    if window.frame is not None:
        assert Image.open(io.BytesIO(window.frame)).size == (SPEC.side, SPEC.side)
    if window.mel is not None:
        assert window.mel.shape[0] <= SPEC.rows
        assert window.mel.shape[1] == 128
        assert np.isfinite(window.mel).all()


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_other_decoders_end_in_a_state_too(decoder: str, tmp_path: Path) -> None:
    paths = damaged_copies(mp4(tmp_path), tmp_path)[::3]
    answers, _ = prepared(paths, decoder)
    assert {"ok", "decode_error"} <= {state for state, _ in answers.values()}


@pytest.mark.parametrize("decoder", ["pyav", "decord", "ffmpeg"])
def test_a_file_that_is_no_video_is_a_decode_error(decoder: str, tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "zeros": bytes(100_000),
        "text": b"once upon a time\n" * 200,
        "html": b"<!doctype html><html><title>410 Gone</title></html>\n" * 40,
        "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "script": b"ffconcat version 1.0\nfile whole.mp4\n",
        "session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
    }
    mp4(tmp_path)
    paths = [tmp_path / f"{name}{suffix}" for name in contents for suffix in (".mp4", ".mkv", ".avi")]
    for path in paths:
        path.write_bytes(contents[path.stem])
    answers, _ = prepared(paths, decoder)
    assert {state for state, _ in answers.values()} == {"decode_error"}


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_a_frame_beyond_4k_is_refused_before_it_is_decoded(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    wide = ("-f", "lavfi", "-i", "color=s=8000x2304:d=1:r=2", "-f", "lavfi", "-i", "sine=d=1")
    run_ffmpeg(*wide, "-c:v", codec, path)
    answers, peak_mib = prepared([path])
    assert answers[path] == ("decode_error", "the frames have no size, or one beyond 4K (9,437,184 pixels)")
    assert peak_mib < WORKER_MIB


def test_a_4k_file_takes_the_codecs_frames_more(tmp_path: Path) -> None:
    path = tmp_path / "4k.mp4"
    large = ("-f", "lavfi", "-i", "testsrc2=s=3840x2160:d=2:r=5", "-f", "lavfi", "-i", "sine=d=2")
    run_ffmpeg(*large, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path)
    answers, peak_mib = prepared([path])
    assert answers[path] == ("ok", None)
    assert peak_mib < WORKER_MIB + PICTURES_4K_MIB


def test_an_hour_takes_no_more_than_a_clip(tmp_path: Path) -> None:
    minute = write_clip(tmp_path / "minute.mp4", 60.0, fps=1, sample_rate=16000)
    path = tmp_path / "hour.mp4"
    run_ffmpeg("-stream_loop", "59", "-i", minute.path, "-c", "copy", path)
    answers, peak_mib = prepared([path])
    assert answers[path] == ("ok", None)
    assert peak_mib < WORKER_MIB
