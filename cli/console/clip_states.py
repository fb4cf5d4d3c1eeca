"""The table of how many clips ended in which state, and what each state means."""

from collections.abc import Mapping

from rich.table import Table

MEANINGS = {
    "ok": "prepared",
    "missing": "no video of this clip was found",
    "duplicate": "the list has the same clip before",
    "no_video": "the file has no video stream",
    "no_audio": "the file has no audio stream",
    "too_short": "less of the clip is left than the minimum",
    "decode_error": "the file is damaged, or is no video",
    "timeout": "the clip took longer than --clip-timeout",
    "crashed": "the decoding process died twice",
}


def state_table(states: Mapping[str, int], total: int, title: str | None = None) -> Table:
    """A row a state: its clips, their fraction of `total`, and what it means."""
    table = Table("state", "clips", "fraction", "meaning", title=title)
    table.columns[1].justify = table.columns[2].justify = "right"
    for state, count in states.items():
        table.add_row(state, f"{count:,}", f"{count / total:.2%}", MEANINGS[state])
    return table
