"""Proves that `--dry-run` estimates what the run then takes, and writes nothing to its target."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.command_line import run
from support.media import write_clip

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.jobs.estimate_sample import NUM_SAMPLED, spread_by_size

OPTIONS = ("--shard-size", "8", "--num-frames", "8", "--frame-size", "96", "--max-failure-rate", "1")
# CPU seconds of a run without the start of Python and of the decoder.
MEASURED_RUN = """
import resource, sys
from pathlib import Path
from cavsync.pipeline.decoding import clip
from cavsync.pipeline.jobs import shard as job
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.lists.folder import folder_listing
from cavsync.pipeline.jobs.prepare import prepare
from cavsync.pipeline.jobs.runner import Workers
class Quiet:
    log = start = clips = lambda *_: None
def core_s():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
before = core_s()
config = PrepareConfig(shard_size=8, num_frames=8, frame_size=96)
prepare(folder_listing(Path(sys.argv[1])), Path(sys.argv[2]), config, Workers(), Quiet())
print(core_s() - before)
"""


@pytest.fixture(scope="module", autouse=True)
def decoders_are_quick() -> None:
    """They are not: the estimate counts the CPU seconds of the children of the command's process."""


def prepare(*arguments: str | Path) -> Result:
    result = run("prepare", *arguments)
    assert "Traceback" not in result.output
    return result


def estimated(*arguments: str | Path) -> dict[str, Any]:
    result = prepare(*arguments, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert content["event"] == "estimate"
    return content


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 clips in three sizes of very different cost."""
    folder = tmp_path_factory.mktemp("videos")
    kinds = [("small", (160, 120), 4.0), ("middle", (320, 240), 10.0), ("large", (480, 360), 10.0)]
    for name, size, duration_s in kinds:
        path = write_clip(folder / f"{name}_00.mp4", duration_s, size=size).path
        for number in range(1, 12):
            (folder / f"{name}_{number:02d}.mp4").symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("nothing") / "out"
    content = estimated("folder", videos, "--out", out, *OPTIONS)
    assert not list(out.parent.iterdir())
    return content


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_run_needs_about_the_estimated_time_and_space(
    videos: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", MEASURED_RUN, str(videos), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert expected["num_bytes"] == pytest.approx(bytes_in(out), rel=0.25)
    index = Dataset.open(out).index("train")
    assert expected["media_s"] == pytest.approx(index["duration_s"].sum(), rel=0.01)
    # The start of the decoder is in the run's figure alone, and a busy machine is half as fast as an idle one.
    assert 0.5 < expected["core_s"] / float(run.stdout) < 1.7
    assert expected["num_found"] == len(index) == 36


def test_the_sample_is_taken_over_all_sizes(videos: Path, tmp_path: Path) -> None:
    archives = ArchiveSet(tmp_path)
    listed = {"split": "train", "shard": "train-00000", "start_s": 0.0, "end_s": 10.0}
    rows = [
        PlanRow(key=path.stem, clip_id=path.stem, source=str(path), **listed)
        for path in sorted(videos.iterdir())
    ]
    sampled = [row.key.partition("_")[0] for row in spread_by_size(rows, archives)]
    assert sampled == ["small"] * 4 + ["middle"] * 4 + ["large"] * 4
    assert spread_by_size(rows, archives) == spread_by_size(rows[::-1], archives)
    assert spread_by_size(rows[:2], archives) == rows[:2]
    assert len(spread_by_size(rows, archives)) == NUM_SAMPLED


def test_more_workers_take_less_time_on_the_clock(
    videos: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert expected["num_shards"] == 5
    assert expected["num_workers"] == 1
    text = prepare(
        "folder", videos, "--out", tmp_path / "out", *OPTIONS, "--workers", "64", "--dry-run"
    ).stdout
    output = " ".join(text.split())
    for words in ("36 clips to decode, in 5 shards", "12 ok", "with --workers 64", "Nothing was written."):
        assert words in output.replace("│", "").replace("  ", " "), output


@pytest.fixture
def root(tmp_path: Path, videos: Path) -> Path:
    """AudioSet with a clip that is there, one that is missing, one that is listed twice and one without audio."""
    raw = tmp_path / "root" / "raw" / "audioset"
    (raw / "videos").mkdir(parents=True)
    rows = [f'{name}, 0.000, 10.000, "/m/1"\n' for name in ("there", "gone", "there", "mute")]
    (raw / "eval_segments.csv").write_text("".join(rows))
    (raw / "videos" / "there.mp4").symlink_to(videos / "small_00.mp4")
    write_clip(raw / "videos" / "mute.mp4", 2.0, audio_codec=None)
    return tmp_path / "root"


def test_missing_clips_are_counted(root: Path) -> None:
    content = estimated("audioset", "--root", root, *OPTIONS)
    counts = {
        name: content[f"num_{name}"] for name in ("listed", "finished", "found", "missing", "duplicate")
    }
    assert counts == {"listed": 4, "finished": 0, "found": 2, "missing": 1, "duplicate": 1}
    assert content["sample"]["states"] == {"ok": 1, "no_audio": 1}
    assert content["media_s"] == pytest.approx(4.0, abs=0.1)
    assert not (root / "data").exists()


def test_only_unfinished_shards_are_estimated(root: Path, videos: Path) -> None:
    command = ("audioset", "--root", root, *OPTIONS)
    assert prepare(*command).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*")}
    result = prepare(*command, "--dry-run")
    assert "All clips are prepared already" in result.output
    assert estimated(*command)["num_found"] == 0
    with (root / "raw" / "audioset" / "eval_segments.csv").open("a") as file:
        file.write('new, 0.000, 10.000, "/m/1"\n')
    (root / "raw" / "audioset" / "videos" / "new.mp4").symlink_to(videos / "small_00.mp4")
    content = estimated(*command)
    assert (content["num_listed"], content["num_finished"], content["num_found"]) == (5, 4, 1)
    assert {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*")} == before


def test_a_dry_run_raises_the_errors_of_the_run(root: Path) -> None:
    assert prepare("audioset", "--root", root, *OPTIONS).exit_code == 0
    result = prepare("audioset", "--root", root, *OPTIONS, "--crop", "none", "--dry-run")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "data/audioset was planned with other inputs: crop was 'centre' and is now 'none'" in output
