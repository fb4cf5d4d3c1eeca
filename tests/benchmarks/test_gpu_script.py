"""Proves that `make gpu`'s script finds what it promises, without a decoder, and that what fails costs only itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import record, table

ROOT = Path(__file__).parents[2]
UNDECODED = ROOT / "tests" / "support" / "gpu" / "undecoded"
pytestmark = pytest.mark.timeout(280)


def without_decoders() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(UNDECODED), str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def python(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        cwd=ROOT,
        env=without_decoders(),
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_script_runs_where_no_decoder_is_installed(tmp_path: Path) -> None:
    ran = python(
        *("-m", "benchmarks.gpu", "--out", tmp_path, "--device", "cpu", "--size", "toy", "--minutes", "4"),
        *("--sections", "tests"),
    )
    assert ran.returncode == 0, ran.stderr
    assert "FAILED" not in ran.stdout, ran.stdout
    assert ran.stdout.count("complete, ") == 1
    assert (tmp_path / "table.txt").read_text() in ran.stdout
    (passed,) = record.read(tmp_path / "tests.json")
    assert passed.value is not None
    assert passed.value >= 10
    assert passed.note == "0 failed"
    assert json.loads((tmp_path / "machine.json").read_text())["gpu"] == "none"


@pytest.mark.slow
def test_the_other_sections_find_their_figures_where_no_decoder_is_installed(tmp_path: Path) -> None:
    # In one process, since each would import torch for seconds.
    code = f"""
import sys
from benchmarks.gpu import inference, run, throughput, trace
sys.argv[1:] = [{str(tmp_path)!r}, "cpu", "toy", "100"]
for section in (throughput, run, inference, trace):
    section.main()
"""
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    names = ("throughput", "run", "inference", "trace")
    found = {name: record.read(tmp_path / f"{name}.json") for name in names}
    assert not [one for findings in found.values() for one in findings if one.error]
    what = [one.what for one in found["throughput"]]
    assert what == [
        "work of a clip",
        "eager, float32, batch 4",
        "as upstream, float16, batch 4",
        "best (eager, batch 4) against upstream's best (batch 4)",
    ]
    assert {one.what.split(",")[0] for one in found["inference"]} == {
        *("embed", "embed with decoding", "heatmaps", "retrieval of 20 clips")
    }
    (of_files,) = [one for one in found["inference"] if one.what == "embed with decoding"]
    assert (of_files.value, of_files.note) == (None, "not measured: av is not installed")
    of_run = {one.what: one for one in found["run"]}
    assert (of_run["stopped by SIGTERM"].value, of_run["resumed"].value) == (4, 6)
    assert of_run["loader, index, 0 processes"].value is not None
    assert of_run["stream"].note == "not measured: webdataset is not installed"
    assert found["trace"][-1].note == "kept"
    assert (tmp_path / "trace-events.json.gz").stat().st_size > 1000


def test_what_fails_costs_only_itself_and_shows_its_last_lines(tmp_path: Path) -> None:
    found = record.Record(tmp_path, "run", seconds=10)
    found.add("loader", 12.5, "pairs/s")
    assert not found.attempt("training", lambda: 1 / 0)
    assert not found.attempt("retrieval", lambda: found.add("never"), needs_s=60)
    assert found.attempt("more", lambda: found.add("heatmaps", 3, "images/s"))
    read = record.read(tmp_path / "run.json")
    assert [one.what for one in read] == ["loader", "training", "retrieval", "heatmaps"]
    assert read[1].error.endswith("ZeroDivisionError: division by zero")
    assert read[2].error.startswith("not begun: ")
    (tmp_path / "machine.json").write_text("{}")
    table.publish(tmp_path, ["run", "trace"], "stopped by a signal")
    text = (tmp_path / "table.txt").read_text()
    for part in ("12.50 pairs/s", "FAILED", "ZeroDivisionError", "did not run", "stopped by a signal"):
        assert part in text


def test_a_section_gets_its_share_of_the_time_and_what_the_ones_before_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[tuple[str, float]] = []

    def at_once(name: str, out: Path, device: str, size: str, seconds: float) -> None:
        begun.append((name, seconds))
        record.Record(out, name, seconds).add("found", 1)

    monkeypatch.setattr(script, "_run_section", at_once)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    script.main(tmp_path, "cpu", "toy", minutes=1, sections="tests,run")
    share = script.SHARES["tests"] / (script.SHARES["tests"] + script.SHARES["run"])
    assert begun == [("tests", pytest.approx(60 * share, abs=2)), ("run", pytest.approx(60, abs=2))]
    assert capsys.readouterr().out.count("found") == 2


def test_a_signal_prints_what_was_found_so_far(tmp_path: Path) -> None:
    (tmp_path / "throughput.json").write_text("[]")
    record.Record(tmp_path, "throughput", 1).add("eager, batch 64", 3000, "clips/s")
    started = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--out",
            str(tmp_path),
            "--device",
            "cpu",
            "--sections",
            "trace",
        ],
        cwd=ROOT,
        env=without_decoders(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline().startswith("section trace")
    time.sleep(0.5)
    started.send_signal(signal.SIGTERM)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 128 + signal.SIGTERM
    assert "3,000 clips/s" in output
    assert "stopped by a signal" in output
