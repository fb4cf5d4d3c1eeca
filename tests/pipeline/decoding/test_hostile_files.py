"""Proves that broken, hostile, very large and very long files end in a state, within their time and memory.

Each batch is prepared in one process of its own: a crash loses the rest of its answers. An ordinary clip comes first,
so that what the batch takes beyond it is known: what Python and the libraries take differs between machines.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.field.damaged import CONTAINERS, FEW_COPIES, OTHER_CONTAINERS, damaged_copies, mp4
from support.media import KnownClip, run_ffmpeg, write_clip

# A file may take this much more than an ordinary clip of 128 pixels does; to hold one whole takes far more.
MARGIN_MIB = 64
# The frames that a 4K codec keeps for itself, to predict others from: at most 8 of 12 MiB.
PICTURES_4K_MIB = 8 * 12

# Prints the state and reason of every file given, or its gaps, then by how much they raised the peak of its memory.
PROGRAM = r"""
import json, re, sys
from pathlib import Path
from cavsync.pipeline.decoding.clip import prepare_clip
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.plan_row import PlanRow
config = PrepareConfig(decoder=sys.argv[1], clip_timeout_s=20.0)
def peak_mib():  # Not ru_maxrss, which begins with the memory of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
for num_before, source in enumerate(sys.stdin.read().splitlines()):
    if num_before == 1:
        ordinary_mib = peak_mib()
    times = {"source_start_s": 0.0, "start_s": 0.0, "end_s": 10.0}
    row = PlanRow(key="clip", clip_id="clip", split="train", shard="train-00000", source=source, **times)
    clip = prepare_clip(row, config)
    facts = clip.row.clip
    gaps = [*facts.audio_gaps_s, *facts.frame_gaps_s] if facts else []
    print(json.dumps([source, clip.state, clip.row.reason or (f"gaps {gaps}" if gaps else None)]), flush=True)
print(peak_mib() - ordinary_mib)
"""

Answers = dict[Path, tuple[str, str | None]]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose memory the others are compared with."""
    return mp4(tmp_path_factory.mktemp("ordinary")).path


def prepared(paths: list[Path], ordinary: Path, decoder: str = "pyav") -> tuple[Answers, float]:
    """What became of each file, and the memory in MiB that they took beyond an ordinary clip."""
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, decoder]
    given = "\n".join(map(str, [ordinary, *paths]))
    done = subprocess.run(command, check=False, input=given, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"after {done.stdout[-300:]}: {done.stderr[-2000:]}"
    *lines, beyond_mib = done.stdout.splitlines()
    answers = {Path(source): (state, reason) for source, state, reason in map(json.loads, lines)}
    assert list(answers) == [ordinary, *paths]
    assert answers.pop(ordinary) == ("ok", None)
    return answers, float(beyond_mib)


@pytest.mark.parametrize("container", CONTAINERS)
def test_damaged_copies_end_in_a_state(
    container: Callable[[Path], KnownClip], ordinary: Path, tmp_path: Path
) -> None:
    whole = container(tmp_path)
    answers, beyond_mib = prepared([whole.path, *damaged_copies(whole, tmp_path)], ordinary)
    states = Counter(state for state, _ in answers.values())
    assert answers[whole.path] == ("ok", None)
    assert set(states) <= {"ok", "decode_error", "no_audio", "no_video", "too_short"}
    damaged = Counter(reason is not None for _, reason in answers.values())
    assert damaged[True] >= 8, "damage has a state, or a gap that is named"
    assert states["decode_error"]
    assert beyond_mib < MARGIN_MIB
    assert all(reason for state, reason in answers.values() if state != "ok")


@pytest.mark.parametrize("container", OTHER_CONTAINERS)
def test_damaged_copies_of_other_containers_end_in_a_state(
    container: str, ordinary: Path, tmp_path: Path
) -> None:
    whole = OTHER_CONTAINERS[container](tmp_path)
    answers, beyond_mib = prepared([whole.path, *damaged_copies(whole, tmp_path, FEW_COPIES)], ordinary)
    assert answers[whole.path][0] == "ok"  # of WMV with a gap: its first 92 ms of audio are missing
    assert {state for state, _ in answers.values()} <= {
        "ok",
        "decode_error",
        "no_audio",
        "no_video",
        "too_short",
    }
    assert beyond_mib < MARGIN_MIB
    assert all(reason for state, reason in answers.values() if state != "ok")


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_other_decoders_end_in_a_state_too(decoder: str, ordinary: Path, tmp_path: Path) -> None:
    paths = damaged_copies(mp4(tmp_path), tmp_path)[::3]
    answers, _ = prepared(paths, ordinary, decoder)
    assert {"ok", "decode_error"} <= {state for state, _ in answers.values()}


@pytest.mark.parametrize("decoder", ["pyav", "decord", "ffmpeg"])
def test_a_file_that_is_no_video_is_a_decode_error(decoder: str, ordinary: Path, tmp_path: Path) -> None:
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
    answers, _ = prepared(paths, ordinary, decoder)
    assert {state for state, _ in answers.values()} == {"decode_error"}


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_a_frame_beyond_4k_is_refused_before_it_is_decoded(
    codec: str, ordinary: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wide.mp4"
    wide = ("-f", "lavfi", "-i", "color=s=8000x2304:d=1:r=2", "-f", "lavfi", "-i", "sine=d=1")
    run_ffmpeg(*wide, "-c:v", codec, path)
    answers, beyond_mib = prepared([path], ordinary)
    assert answers[path] == ("decode_error", "the frames have no size, or one beyond 4K (9,437,184 pixels)")
    assert beyond_mib < MARGIN_MIB


def test_a_4k_file_takes_the_codecs_frames_more(ordinary: Path, tmp_path: Path) -> None:
    path = tmp_path / "4k.mp4"
    large = ("-f", "lavfi", "-i", "testsrc2=s=3840x2160:d=2:r=5", "-f", "lavfi", "-i", "sine=d=2")
    run_ffmpeg(*large, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path)
    answers, beyond_mib = prepared([path], ordinary)
    assert answers[path] == ("ok", None)
    assert beyond_mib < MARGIN_MIB + PICTURES_4K_MIB


def test_an_hour_takes_no_more_than_a_clip_in_any_container(ordinary: Path, tmp_path: Path) -> None:
    minute = write_clip(tmp_path / "minute.mp4", 60.0, fps=1, sample_rate=16000)
    hours = [tmp_path / f"hour.{suffix}" for suffix in ("mp4", "mov", "mkv", "ts", "flv", "nut")]
    for path in hours:
        run_ffmpeg("-stream_loop", "59", "-i", minute.path, "-c", "copy", path)
    answers, beyond_mib = prepared(hours, ordinary)
    assert {path: state for path, (state, _) in answers.items()} == dict.fromkeys(hours, "ok")
    assert beyond_mib < MARGIN_MIB
