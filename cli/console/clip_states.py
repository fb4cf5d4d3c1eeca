"""The table of how many clips ended in which state, what each state means, and its most frequent reason."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from cavsync.pipeline.inspection.failures import FrequentReason

MEANINGS = {
    "ok": "prepared",
    "missing": "no video of this clip was found",
    "duplicate": "the list has the same clip before",
    "no_video": "the file has no video stream",
    "no_audio": "the file has no audio stream",
    "too_short": "less of the clip is left than the minimum",
    "filtered": "prepared, and not kept by --keep",
    "decode_error": "the file is damaged, or is no video",
    "timeout": "the clip took longer than --clip-timeout",
    "crashed": "the decoding process died twice",
}


def state_table(
    states: Mapping[str, int], total: int, reasons: Mapping[str, "FrequentReason"], title: str | None = None
) -> Table:
    """A row a state: its clips, their fraction of `total`, what it means, and the most frequent reason below that."""
    table = Table("state", "clips", "fraction", "meaning, most frequent reason", title=title)
    table.columns[1].justify = table.columns[2].justify = "right"
    for state, count in states.items():
        meaning = MEANINGS[state]
        if state in reasons and reasons[state].text != meaning:
            meaning += f"\n[dim]{escape(_words(reasons[state]))}[/]"
        table.add_row(state, f"{count:,}", f"{count / total:.2%}", meaning)
    return table


def _words(reason: "FrequentReason") -> str:
    return f"{reason.num_clips:,} of {reason.num_counted:,}: {reason.text}"
