"""What a section finds, on disk after each finding, so that a section that is stopped keeps what it has."""

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

LINES_OF_ERROR = 6


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the table: a figure, or why there is none."""

    what: str
    value: float | None = None
    unit: str = ""
    note: str = ""
    error: str = ""  # the last lines of a traceback
    details: dict[str, object] = field(default_factory=dict)


class Record:
    """The findings of one section, in `OUT/NAME.json`."""

    def __init__(self, out: Path, name: str, seconds: float) -> None:
        self.path, self.findings = out / f"{name}.json", list[Finding]()
        self.deadline_s = time.monotonic() + seconds
        self._write()

    @property
    def seconds_left(self) -> float:
        return self.deadline_s - time.monotonic()

    def add(
        self, what: str, value: float | None = None, unit: str = "", note: str = "", **details: object
    ) -> None:
        self._append(Finding(what=what, value=value, unit=unit, note=note, details=details))

    def update(self, what: str, value: float, unit: str, note: str) -> None:
        """As `add`, in place of what was added with the same words before."""
        self.findings = [one for one in self.findings if one.what != what]
        self.add(what, value, unit, note)

    def fail(self, what: str, error: str) -> None:
        self._append(Finding(what=what, error=error))

    def attempt(self, what: str, work: Callable[[], object], needs_s: float = 0) -> bool:
        """Whether `work`, which adds findings, went through; an error becomes a finding, and the section goes on.

        Work that needs more seconds than are left is not begun, and the table says so.
        """
        if self.seconds_left < needs_s:
            self.fail(what, f"not begun: {self.seconds_left:.0f} s were left")
            return False
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever it is belongs into the table)
            lines = "".join(traceback.format_exception(error)).strip().splitlines()
            self.fail(what, "\n".join(lines[-LINES_OF_ERROR:]))
            return False
        return True

    def _append(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._write()

    def _write(self) -> None:
        half = self.path.with_suffix(".half")
        half.write_text(json.dumps([asdict(one) for one in self.findings], indent=1, default=str))
        os.replace(half, self.path)


def read(path: Path) -> list[Finding]:
    """The findings of a section's file; none where it was not begun."""
    return [Finding(**one) for one in json.loads(path.read_text())] if path.is_file() else []
