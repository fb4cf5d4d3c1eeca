"""Tables of `cavsync data` on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cavsync.cli.console.clip_states import state_table

if TYPE_CHECKING:
    from cavsync.pipeline.inspection.failures import Failure, FrequentReason
    from cavsync.pipeline.inspection.statistics import Statistics
    from cavsync.pipeline.inspection.status import Runner, Status
    from cavsync.pipeline.inspection.validation import DatasetValidation
    from cavsync.pipeline.storage.path import AnyPath

MAX_LINES = 12  # problems of one shard, values of one fact
NUM_LABELS = 5  # top and rare ones


def status_view(status: "Status", reasons: Mapping[str, "FrequentReason"]) -> RenderableType:
    """One bar, the facts of the run, and the states of the clips so far."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("shards", f"{status.num_shards_done:,} of {status.num_shards:,}")
    facts.add_row("clips", f"{status.num_clips_done:,} of {status.num_clips:,}")
    if status.clips_per_s:
        facts.add_row("speed", f"{status.clips_per_s:.2f} clips/s, {_left(status.eta_s)}")
    elif status.worker_seconds:
        facts.add_row("time", f"{_duration(status.worker_seconds)} of worker time for the finished shards")
    if status.num_bytes:
        of_audio = f", {decimal(status.audio_bytes)} of it audio" if status.audio_bytes else ""
        facts.add_row("size", f"{decimal(status.num_bytes)} in finished shards{of_audio}")
    if status.notes:
        facts.add_row(
            "notes", _counted({name.replace("_", " "): count for name, count in status.notes.items()})
        )
    facts.add_row("run", Text(_run(status)))
    bar = Padding(ProgressBar(status.num_clips, status.num_clips_done, width=60))
    states = [state_table(status.states, sum(status.states.values()), reasons)] if status.states else []
    return Group(Text(str(status.root), style="bold"), bar, facts, *states)


def print_failures(failures: Iterable["Failure"]) -> None:
    """A table on a terminal; elsewhere a line of tab-separated values a clip, under a line of titles."""
    rows = ((one.state, one.key, one.source or "", one.reason, one.listed_in or "") for one in failures)
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in (_FAILURE_TITLES, *rows):
            typer.echo("\t".join(_one_line(cell) for cell in row))
        return
    table = Table(*_FAILURE_TITLES)
    for row in rows:
        table.add_row(*(Text(_one_line(cell)) for cell in row))
    console.print(table)


_FAILURE_TITLES = ("state", "key", "file", "reason", "listed in")


def _one_line(cell: str) -> str:
    """The cell without tabs, newlines and other control characters, which would end it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cell)


def print_validation(folder: "AnyPath", found: "DatasetValidation", fixed: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for shard, problems in found.damaged.items():
        console.print(f"[red]{escape(shard)} is damaged")
        for problem in problems[:MAX_LINES]:
            console.print(f"  {escape(problem)}")
        if len(problems) > MAX_LINES:
            console.print(f"  and {len(problems) - MAX_LINES:,} more")
    for problem in found.faults:
        console.print(f"[red]{escape(problem)}")
    for warning in _warnings(found):
        console.print(f"[yellow]{escape(warning)}")
    if found.is_clean:
        console.print(f"[green]{found.num_checked:,} shards are whole.")
    elif fixed:
        console.print("The damaged shards were removed; repeat the prepare command to make them again.")
    else:
        whole = found.num_checked - len(found.damaged)
        console.print(f"{whole:,} of {found.num_checked:,} shards are whole. {_way_out(folder, found)}")


def _way_out(folder: "AnyPath", found: "DatasetValidation") -> str:
    if found.damaged or found.summary_is_wrong:
        return f"`cavsync data validate {folder} --fix` removes the damaged shards; then repeat the prepare command."
    return "Prepare into another folder."


def _warnings(found: "DatasetValidation") -> list[str]:
    warnings = []
    if found.leaked_ids:
        some = ", ".join(found.leaked_ids[:MAX_LINES])
        more = f" and {len(found.leaked_ids) - MAX_LINES:,} more" if len(found.leaked_ids) > MAX_LINES else ""
        warnings.append(
            f"{len(found.leaked_ids):,} videos have clips in training and in test splits: {some}{more}"
        )
    if found.num_unfinished:
        warnings.append(f"{found.num_unfinished:,} shards are not made yet.")
    if found.strays:
        warnings.append(f"Files in shards/ that no plan has: {', '.join(found.strays[:MAX_LINES])}")
    return warnings


def print_statistics(found: "Statistics") -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{escape(found.name)}[/]: {found.num_listed:,} listed clips, {found.finished}, "
        f"{found.ok_hours:,.2f} h prepared"
    )
    console.print(state_table(found.states, sum(found.states.values()), found.reasons))
    facts = Table.grid(padding=(0, 2))
    for title, counts in found.facts.items():
        facts.add_row(title, _counted(counts))
    if found.kept_audio:
        facts.add_row("kept audio", _counted(found.kept_audio))
    sizes = ", ".join(f"{name} {decimal(size)}" for name, size in found.num_bytes.items() if size)
    facts.add_row("stored", sizes or "nothing")
    facts.add_row("durations", ", ".join(f"{n} {v:.2f} s" for n, v in found.duration_percentiles_s().items()))
    facts.add_row("labels", _labels(found.clips_per_label))
    facts.add_row("log-mel", _mel(found))
    for note, keys in found.notes.items():
        facts.add_row(note.replace("_", " "), _keys(keys))
    Console(highlight=False).print(facts)


def _run(status: "Status") -> str:
    if status.runner is None:
        return "finished" if status.is_finished else "none; repeat the prepare command to continue"
    return _described(status.runner)


def _described(runner: "Runner") -> str:
    who = f"process {runner.pid} on {runner.host}, since {runner.since}"
    if runner.workers:
        who += f", {runner.workers} worker{'s' if runner.workers > 1 else ''}"
    updated = "" if runner.last_update_s is None else f", last update {_duration(runner.last_update_s)} ago"
    return {
        "running": f"{who}{updated}",
        "silent": f"{who}{updated}: it may have died; check that host",
        "dead": f"{who}: it has ended. Repeat the prepare command to continue.",
    }[runner.state]


def _left(eta_s: float | None) -> str:
    return "" if eta_s is None else f"{_duration(eta_s)} left"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _counted(counts: Mapping[str, int]) -> str:
    some = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:MAX_LINES])
    return escape(some) + (f", {len(counts) - MAX_LINES:,} others" if len(counts) > MAX_LINES else "")


def _labels(clips: Mapping[str, int]) -> str:
    ordered = list(clips.items())
    if len(ordered) <= 2 * NUM_LABELS:
        return _counted(clips) or "none"
    top, rare = dict(ordered[:NUM_LABELS]), dict(ordered[-NUM_LABELS:])
    return f"{len(ordered):,} labels; most: {_counted(top)}; fewest: {_counted(rare)}"


def _mel(found: "Statistics") -> str:
    mel = found.mel
    published = f"published for {mel.reference}: {mel.reference_mean} / {mel.reference_std}"
    if mel.mean is None or mel.std is None:
        return f"no clip; {published}"
    return f"mean {mel.mean:.4f}, deviation {mel.std:.4f} ({published})"


def _keys(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MAX_LINES:,} more" if len(keys) > MAX_LINES else ""
    return escape(f"{len(keys):,}" + (f": {', '.join(keys[:MAX_LINES])}{more}" if keys else ""))
