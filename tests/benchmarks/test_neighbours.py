"""Proves what a benchmark's table says of other processes: CPU time that is neither idle nor of the benchmark."""

from pathlib import Path

import pytest

from benchmarks.support import neighbours
from benchmarks.support.neighbours import CpuTimes, Neighbours


def test_other_processes_used_what_is_neither_idle_nor_the_benchmarks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours.os, "cpu_count", lambda: 4)
    before = CpuTimes(all_s=100.0, busy_s=10.0, own_s=1.0)
    # 10 s of 4 cores: 12 s busy, 7 of them of the benchmark; the other 5 s are half a core.
    after = CpuTimes(all_s=140.0, busy_s=22.0, own_s=8.0)
    assert after.foreign_cores_since(before) == pytest.approx(0.5)


def test_idle_and_waiting_time_is_not_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 200 300 4000 500 60 70 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    monkeypatch.setattr(neighbours, "MACHINE", stat)
    monkeypatch.setattr(neighbours.os, "sysconf", lambda name: 100)
    now = CpuTimes.now()
    assert now is not None
    assert now.all_s == pytest.approx(53.1)
    assert now.busy_s == pytest.approx(8.1)


def test_a_system_that_counts_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MACHINE", tmp_path / "missing")
    assert Neighbours().note() == (
        "What other processes used meanwhile is not known: this system does not count it."
    )
