"""Prints the estimate of `cavsync prepare --dry-run`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cavsync.pipeline.jobs.estimate import PrepareEstimate
    from cavsync.pipeline.storage.path import AnyPath

GB = 1e9


def print_estimate(expected: "PrepareEstimate | None", lists: str, out: "AnyPath", *, as_json: bool) -> None:
    """`lists` are the names of the lists, for people. Nothing to estimate means that all is prepared."""
    if as_json:
        facts = {"num_found": 0} if expected is None else asdict(expected)
        print(json.dumps({"event": "estimate", "out": str(out), **facts}))
    elif expected is None:
        Console().print(
            f"All clips are prepared already: {out}", markup=False, highlight=False, soft_wrap=True
        )
    else:
        _print_estimate(expected, lists, out)


def _print_estimate(expected: "PrepareEstimate", lists: str, out: "AnyPath") -> None:
    _print_table(expected, lists, out)
    if expected.free_bytes is not None and expected.num_bytes > expected.free_bytes:
        Console(stderr=True).print(f"[red]Only {expected.free_bytes / GB:,.1f} GB are free for {out}.")


def _print_table(expected: "PrepareEstimate", lists: str, out: "AnyPath") -> None:
    table = Table(title=f"{expected.num_listed:,} clips listed in {lists}", show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for value, meaning in _lines(expected):
        table.add_row(value, meaning)
    Console().print(table)
    kept = out / "archives"
    if kept.is_dir():
        line = f"Nothing was written, but what the archives hold is kept in {kept}."
    else:
        line = "Nothing was written."
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(expected: "PrepareEstimate") -> list[tuple[str, str]]:
    sample, workers = expected.sample, expected.num_workers
    states = ", ".join(f"{count} {state}" for state, count in sample.states.items())
    return [
        (f"{expected.num_finished:,}", "clips are in finished shards"),
        (f"{expected.num_missing:,}", "missing: no video of this clip was found"),
        (f"{expected.num_duplicate:,}", "duplicate: the list has the same clip before"),
        (f"{expected.num_found:,}", f"clips to decode, in {expected.num_shards:,} shards"),
        (f"{sample.num_clips:,}", f"of them were decoded for this estimate: {states}"),
        (_duration(expected.media_s), "of audio and frames will be stored"),
        (_duration(expected.core_s), "of computing time on one core"),
        (
            _duration(expected.wall_s),
            f"of wall-clock time with --workers {workers:,}, if each has a core like this one",
        ),
        (_size(expected.num_bytes), _room(expected)),
    ]


def _room(expected: "PrepareEstimate") -> str:
    if expected.free_bytes is None:
        return "of storage"
    return f"of disk space; {expected.free_bytes / GB:,.1f} GB are free"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GB:,.1f} GB" if num_bytes >= GB else f"{num_bytes / 1e6:,.1f} MB"
