"""Proves that `cavsync data status` gives the progress of a dataset during a run, after it and after a kill."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import output_text
from support.prepared import data, prepare_vggsound, write_videos

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.plan_row import PLAN_INPUTS
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.inspection.status import Status, read_status
from cavsync.pipeline.jobs.prepare import prepare
from cavsync.pipeline.jobs.progress import RECORD_NAME, recorded
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.lists.folder import folder_listing
from cavsync.pipeline.storage.lock import run_lock

STATES = {"ok": 6, "decode_error": 1, "missing": 1, "duplicate": 1}


def test_status_of_a_finished_dataset(out: Path) -> None:
    result = data("status", out)
    assert result.exit_code == 0
    for words in ("shards 3 of 3", "clips 9 of 9", "run finished", "decode_error"):
        assert words in output_text(result)
    status = json.loads(data("status", out, "--json").stdout)
    assert (status["finished"], status["states"], status["eta_s"]) == (True, STATES, None)


def test_status_of_an_interrupted_preparation_shows_what_is_left(out: Path) -> None:
    (out / "done" / "train-00000.json").unlink()
    (out / "dataset.json").unlink()
    result = data("status", out)
    assert "shards 2 of 3" in output_text(result)
    assert "run none; repeat the prepare command to continue" in output_text(result)


def test_watch_ends_when_the_dataset_is_finished(out: Path) -> None:
    assert "shards 3 of 3" in output_text(data("status", out, "--watch"))


class StatusReader:
    """A reporter that reads the status at every clip, as another shell would."""

    def __init__(self, read: Callable[[], None]) -> None:
        self.read = read

    def log(self, line: str) -> None:
        pass

    def start(self, num_clips: int, num_done: int) -> None:
        pass

    def clips(self, states: Mapping[ClipState, int]) -> None:
        self.read()


def test_a_running_preparation_shows_its_progress(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cavsync.pipeline.jobs.progress.UPDATE_EVERY_S", 0.0)
    out, seen = tmp_path / "out", list[Status]()
    config = PrepareConfig(num_frames=2, frame_size=32, shard_size=3)
    status_reader = StatusReader(lambda: seen.append(read_status(out)))
    with recorded(status_reader, out, 1) as reporter:
        prepare(folder_listing(prepared / "videos"), out, config, Workers(), reporter)
    assert not (out / RECORD_NAME).exists()
    # Read before the current clip is counted.
    assert [status.num_clips_done for status in seen] == list(range(6))
    assert [status.num_shards_done for status in seen] == [0, 0, 0, 1, 1, 1]
    assert seen[-1].clips_per_s is not None
    assert seen[-1].eta_s == pytest.approx(1 / seen[-1].clips_per_s)
    runner = seen[-1].runner
    assert runner is not None
    assert (runner.state, runner.host, runner.workers) == ("running", socket.gethostname(), 1)
    assert sum(seen[-1].states.values()) == 5
    assert read_status(out).states == {"ok": 5, "decode_error": 1}


def test_another_process_sees_the_run(out: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from pathlib import Path; from cavsync.pipeline.inspection.status import read_status; print(read_status(Path('.')).runner)",
    ]
    with run_lock(out):
        seen = subprocess.run(command, cwd=out, capture_output=True, text=True, check=True).stdout
    assert "state='running'" in seen


def test_a_killed_run_is_distinguished_from_a_living_one(out: Path) -> None:
    (out / "done" / "train-00000.json").unlink()
    code = "import os; from cavsync.pipeline.storage.lock import *\nwith run_lock(Path('.')): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=out, check=False).returncode == 9
    leave_record(out, json.loads((out / ".lock").read_text()), updated=datetime.now(UTC))
    result = data("status", out)
    assert "it has ended. Repeat the prepare command to continue." in output_text(result)
    assert "clips 6 of 9" in output_text(result), (
        "the counts of a dead run are not used for unfinished shards"
    )


def test_a_run_on_another_host_without_updates_is_reported_as_silent(out: Path) -> None:
    holder = {"pid": 7, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    (out / ".lock").write_text(json.dumps(holder))
    assert "process 7 on elsewhere, since" in output_text(data("status", out))
    leave_record(out, holder, updated=datetime.now(UTC))
    assert read_runner_life(out) == "running"
    leave_record(out, holder, updated=datetime.now(UTC) - timedelta(hours=1))
    assert read_runner_life(out) == "silent"
    assert "last update 1:00:00 ago: it may have died; check that host" in output_text(data("status", out))


def read_runner_life(out: Path) -> str:
    runner = read_status(out).runner
    assert runner is not None
    return runner.state


def leave_record(out: Path, holder: Mapping[str, Any], updated: datetime) -> None:
    process = {"pid": holder["pid"], "host": holder["host"], "workers": 2, "started": holder["since"]}
    counts = {"num_clips": 9, "num_before": 6, "states_before": {"ok": 6}, "states": {"ok": 2}}
    record = {**process, **counts, "updated": updated.isoformat(), "clips_per_s": 1.0}
    (out / RECORD_NAME).write_text(json.dumps(record))


def test_a_refused_run_leaves_the_record_of_the_other(out: Path) -> None:
    (out / RECORD_NAME).write_text("{}")
    with recorded(StatusReader(lambda: None), out, 1) as reporter:
        reporter.start(9, 9)
    assert (out / RECORD_NAME).is_file()


def test_retried_clips_count_once(tmp_path: Path) -> None:
    write_videos(tmp_path)
    prepare_vggsound(tmp_path)
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "e.mp4")
    out = prepare_vggsound(tmp_path, "--retry-failed")
    status = read_status(out)
    assert status.states == {"ok": 7, "missing": 1, "duplicate": 1}
    assert (status.num_shards, status.num_clips, status.is_finished) == (4, 10, True)


def test_four_thousand_shards_are_counted_fast(tmp_path: Path) -> None:
    names = [f"train-{number:05d}" for number in range(4000)]
    for folder in ("shards", "index", "done"):
        (tmp_path / folder).mkdir()
    states = {"ok": 400, "missing": 100}
    record = DoneRecord(
        shard="", num_rows=500, states=states, tar_bytes=0, tar_sha256="", index_sha256=""
    ).to_json()
    for name in names:
        (tmp_path / "shards" / f"{name}.tar").touch()
        (tmp_path / "index" / f"{name}.parquet").touch()
        (tmp_path / "done" / f"{name}.json").write_bytes(record)
    shards = pa.array(names).take(pa.array([number for number in range(4000) for _ in range(500)]))
    plan = pa.table({"shard": shards}).replace_schema_metadata({PLAN_INPUTS: "{}"})
    pq.write_table(plan, tmp_path / "plan.parquet")
    began = time.process_time()
    status = read_status(tmp_path)
    assert time.process_time() - began < 2.0
    assert (status.num_clips, status.num_shards_done) == (2_000_000, 4000)
    assert status.states == {"ok": 1_600_000, "missing": 400_000}


@pytest.mark.parametrize("command", ["status", "validate", "stats", "show"])
def test_a_folder_without_a_dataset_is_an_error(command: str, out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no dataset: plan.parquet is not there" in output_text(data(command, tmp_path / "empty"))
    (tmp_path / "empty" / ".lock").write_text("{}")
    assert "is being planned" in output_text(data(command, tmp_path / "empty"))
    summary = out / "dataset.json"
    summary.write_text(summary.read_text().replace('"schema_version": 2', '"schema_version": 99'))
    result = data(command, out)
    assert result.exit_code == 1
    assert "has schema version 99, this cavsync reads 2" in output_text(result)
    summary.write_text("{")
    assert "dataset.json is damaged" in output_text(data(command, out))
