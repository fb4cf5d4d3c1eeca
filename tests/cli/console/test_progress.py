"""Proves that progress is a bar on a terminal and dated lines in a log, and that an error stands alone behind either."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.command_line import output_text, run
from support.known_shards import write_known_shards
from support.trainings import events, micro

from cavsync.cli.console import progress

BAR = "━"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a run, whose clips are then cut off, so that reading them fails behind a bar."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=6)
    events(*micro("--root", root, "--no-estimate"))
    for tar in (root / "data" / "demo" / "shards").iterdir():
        tar.write_bytes(tar.read_bytes()[:1000])
    return root


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["eval", "retrieval", "--split", "train"], "embedding"),
        (["eval", "synchrony", "--split", "train"], "embedding"),
        (["train", *micro("--run", "RUN", "--no-estimate")], "training"),
    ],
    ids=["retrieval", "synchrony", "train"],
)
def test_no_bar_is_left_before_an_error(command: list[str], shown: str, broken: Path, tmp_path: Path) -> None:
    result = run(*(tmp_path / "run" if one == "RUN" else one for one in command), "--root", broken)
    assert result.exit_code == 1
    text = output_text(result)
    assert "Error" in text
    assert BAR not in text
    assert f"{shown} " not in text.partition("Error")[0].partition("Checkpoint:")[2]


def test_a_bar_stays_on_a_terminal_where_all_went_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    write_known_shards(tmp_path / "data" / "demo", num_clips=6)
    result = run("train", *micro("--root", tmp_path, "--no-estimate"))
    assert result.exit_code == 0
    assert BAR in result.output


def test_a_log_ends_with_the_count_the_rate_and_the_losses(tmp_path: Path) -> None:
    write_known_shards(tmp_path / "data" / "demo", num_clips=6)
    result = run("train", *micro("--root", tmp_path, "--no-estimate"))
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if "training:" in line)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d training: (\d+) of \1 steps \(100 %\).*; loss \d", line)
    assert BAR not in result.output


class LoggedStage:
    """A stage of `total` items behind a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int | None, done: int = 0) -> None:
        self.now_s, self.output = 0.0, io.StringIO()
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.bar = progress.LoggedProgress("clips", console=Console(file=self.output), disable=False)
        self.task = self.bar.add_task("preparing", total=total, completed=done, note="")

    def make(self, num_items: int, seconds_each: float) -> None:
        for _ in range(num_items):
            self.now_s += seconds_each
            self.bar.advance(self.task)

    @property
    def counts(self) -> list[int]:
        """The counts of the lines so far."""
        return [
            int(count.replace(",", ""))
            for count in re.findall(r"preparing: ([\d,]+)", self.output.getvalue())
        ]


@pytest.mark.parametrize(
    ("total", "seconds_each", "expected"),
    [
        (1000, 1.0, [*range(50, 1001, 50)]),  # a twentieth takes 50 s
        (1000, 0.125, [240, 480, 720, 960]),  # and here 6.25 s
        (1000, 200.0, [*range(3, 1001, 3)]),  # and here 2.8 hours
        (None, 1.0, [*range(30, 1001, 30)]),
    ],
    ids=["a twentieth", "half a minute", "ten minutes", "no total"],
)
def test_a_log_has_a_line_at_the_rarer_of_half_a_minute_and_a_twentieth(
    total: int | None, seconds_each: float, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = LoggedStage(monkeypatch, total)
    stage.make(1000, seconds_each)
    assert stage.counts == expected
    stage.bar.stop()
    assert stage.counts == expected + [1000] * (expected[-1] != 1000)


def test_the_work_of_an_earlier_run_is_no_progress_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = LoggedStage(monkeypatch, 1000, done=900)
    stage.make(40, 0.5)
    assert stage.counts == []
    stage.make(60, 0.5)
    assert stage.counts == [960]


def test_a_line_says_what_is_done_what_is_left_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = LoggedStage(monkeypatch, 2000)
    stage.make(1000, 0.0)
    stage.now_s = 30
    stage.bar.update(stage.task, advance=234, note="12 missing, 3 no_audio")
    (line,) = stage.output.getvalue().splitlines()
    assert re.search(
        r" preparing: 1,234 of 2,000 clips \(62 %\), [\d.]+ clips/s, \d:\d\d:\d\d left; 12 missing, 3 no_audio$",
        line,
    )


def test_a_stage_that_fails_has_no_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = LoggedStage(monkeypatch, 10)
    stage.make(3, 1.0)
    with pytest.raises(ValueError, match="damaged"), stage.bar:
        raise ValueError("damaged")
    assert stage.output.getvalue() == ""
