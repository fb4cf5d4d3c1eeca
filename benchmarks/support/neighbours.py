"""How much of the machine other processes used while a benchmark ran; standard library only, for bare machines."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MACHINE = Path("/proc/stat")
# The first columns of its first line: user, nice, system, idle, iowait, irq, softirq, steal. Those after them count twice.
NUM_COLUMNS, IDLE_COLUMNS = 8, (3, 4)


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds so far: all of the machine's cores, those that were busy, and what this process and its children used."""

    all_s: float
    busy_s: float
    own_s: float  # of children once they have ended

    @classmethod
    def now(cls) -> Self | None:
        """None where the system counts nothing."""
        if not MACHINE.is_file():
            return None
        first = MACHINE.read_text().split("\n", 1)[0].split()[1 : NUM_COLUMNS + 1]
        columns_s = [int(column) / os.sysconf("SC_CLK_TCK") for column in first]
        idle_s = sum(columns_s[column] for column in IDLE_COLUMNS)
        own = os.times()
        return cls(
            all_s=sum(columns_s),
            busy_s=sum(columns_s) - idle_s,
            own_s=own.user + own.system + own.children_user + own.children_system,
        )

    def foreign_cores_since(self, before: "CpuTimes") -> float:
        """How many cores' time other processes used, other virtual machines included."""
        all_s = max(self.all_s - before.all_s, 1 / os.sysconf("SC_CLK_TCK"))
        foreign_s = self.busy_s - before.busy_s - (self.own_s - before.own_s)
        return (os.cpu_count() or 1) * max(0.0, foreign_s) / all_s


class Neighbours:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._began = CpuTimes.now()

    def cores(self) -> float | None:
        """How many cores' time other processes used so far; None where that is not known."""
        now = CpuTimes.now()
        return None if now is None or self._began is None else now.foreign_cores_since(self._began)

    def note(self) -> str:
        """The same as a sentence for a table."""
        cores = self.cores()
        if cores is None:
            return "What other processes used meanwhile is not known: this system does not count it."
        return f"Other processes used {cores:.2f} of {os.cpu_count()} cores meanwhile."
