"""Shows a preparation: a progress bar and a table for people, JSON lines for programs."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from cavsync.cli.console.clip_states import state_table
from cavsync.cli.console.progress import bar
from cavsync.cli.prepare.notes import note_lines

if TYPE_CHECKING:
    from cavsync.pipeline.dataset.schema import ClipState
    from cavsync.pipeline.jobs.summary import Summary


class BarReporter:
    """A progress bar with clips/s, the time left and the failures so far; a table at the end."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._bar = bar("clips")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, at)

    def log(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def start(self, num_clips: int, num_done: int) -> None:
        if num_done == num_clips:
            self.log(f"All {num_clips:,} clips are prepared already.")
            return
        if num_done:
            self.log(f"{num_done:,} clips are prepared already.")
        self._task = self._bar.add_task("preparing", total=num_clips, completed=num_done, note="")
        self._bar.start()

    def clips(self, states: "Mapping[ClipState, int]") -> None:
        self._states.update({str(state): count for state, count in states.items()})
        failures = [
            f"{count:,} {state}" for state, count in self._states.most_common() if state != "ok" and count
        ]
        self._bar.update(self._task, advance=sum(states.values()), note=", ".join(failures[:3]))

    def end(self, summary: Mapping[str, Any]) -> None:
        from cavsync.pipeline.inspection.failures import FrequentReason

        listed, states = summary["listed"], dict(sorted(summary["states"].items(), key=lambda item: -item[1]))
        reasons = {state: FrequentReason(**one) for state, one in summary["reasons"].items()}
        Console().print(state_table(states, listed, reasons, title=f"{listed:,} listed clips"))
        for line in note_lines(summary["notes"]):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
        Console().print(f"Dataset: {summary['out']}", markup=False, highlight=False, soft_wrap=True)


def end_counts(summary: "Summary") -> dict[str, Any]:
    """The part of a preparation's end event that every reporter needs."""
    from cavsync.pipeline.dataset.inventory import Inventory
    from cavsync.pipeline.inspection.failures import frequent_reasons

    reasons = frequent_reasons(Inventory.read(summary.root))
    return {
        "listed": summary.num_listed,
        "states": dict(summary.states),
        "reasons": {state: asdict(reason) for state, reason in reasons.items()},
        "notes": dict(summary.notes),
    }


class JsonReporter:
    """One JSON object a line on stdout: {"event": "log" | "start" | "clips" | "end", ...}; clips at most once a second."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def log(self, line: str) -> None:
        self._print("log", line=line)

    def start(self, num_clips: int, num_done: int) -> None:
        self._print("start", clips=num_clips, done=num_done)

    def clips(self, states: "Mapping[ClipState, int]") -> None:
        self._states.update({str(state): count for state, count in states.items()})
        if time.monotonic() - self._printed_at >= 1.0:
            self._printed_at = time.monotonic()
            self._print("clips", states=dict(self._states))

    def end(self, summary: Mapping[str, Any]) -> None:
        self._print("end", **summary)

    def _print(self, event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}), flush=True)
