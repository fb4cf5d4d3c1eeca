"""How often the 95 % intervals of evaluations hold the right value, on simulated sets.

    python -m benchmarks.coverage [--rounds N] [--seed N]

The right value of a figure is its mean over sets of the same kind and size, of a median rank their median: over all rounds. An interval that always holds is
too wide, so that the table has the median width as well. Large sets are drawn a quarter as often.
"""

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.support import results
from benchmarks.support.simulated import Classified, Drawn, Retrieved, Segmented, Synchronised
from cavsync.train.reporting.estimate import Estimate

SMALL = (
    Classified("small, 10 x 12 clips", num_clips=120, num_classes=10),
    Classified("small, several labels, 128 clips", num_clips=128, num_classes=10, positives=(4, 60)),
    Segmented(),
    Segmented(num_rows=12, num_classes=10),
    Retrieved(128),
    Synchronised(128, 0.3),
    Synchronised(128, 0.97),
    Synchronised(24, 0.9),
)
LARGE = (
    Classified("as VGGSound, 309 x 5 clips", num_clips=1_545, num_classes=309),
    Classified("as AudioSet, 527 classes, 2,000 clips", num_clips=2_000, num_classes=527, positives=(3, 300)),
    Retrieved(1_545),
)
# Of an item that is drawn less often than this, the mean over the rounds says too little.
MIN_DRAWN = 20


class SimulatedSet(Protocol):
    def draw(self, random: np.random.Generator) -> Drawn: ...


@dataclass
class Tally:
    """The estimates of one row of the table, by item."""

    estimates: dict[str, list[Estimate]] = field(default_factory=lambda: defaultdict(list))

    def row(self) -> tuple[float, int, float, float] | None:
        """Intervals in % that hold the mean of their item, their number, median width, and the mean value."""
        held, widths, values = [], [], []
        for estimates in self.estimates.values():
            if len(estimates) < MIN_DRAWN:
                continue
            middle = np.mean if estimates[0].unit == "%" else np.median  # a rank's estimate is a median
            right = float(middle([one.value for one in estimates]))
            for one in estimates:
                assert one.low is not None
                assert one.high is not None
                held.append(one.low <= right <= one.high)
                widths.append(one.high - one.low)
            values.append(right)
        if not held:
            return None
        return 100 * float(np.mean(held)), len(held), float(np.median(widths)), float(np.mean(values))


def main(rounds: int = 400, seed: int = 0) -> None:
    began_s = time.process_time()
    found = {
        name: row
        for sets, number in ((SMALL, rounds), (LARGE, rounds // 4))
        for one in sets
        for name, tally in measured(one, number, seed).items()
        if (row := tally.row())
    }
    table = Table(title="95 % intervals of simulated sets", title_justify="left")
    for heading in ("figure", "hold", "of", "median width", "mean"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, (held, number, width, value) in found.items():
        table.add_row(name, f"{held:.1f} %", f"{number:,}", f"{width:.1f}", f"{value:.1f}")
    note = f"{rounds} rounds, {rounds // 4} of large sets, seed {seed}; {time.process_time() - began_s:.0f} s of CPU time"
    Console(width=results.WIDTH).print(table, note, sep="\n", highlight=False)
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    rows = {name: dict(zip(("held", "of", "width", "mean"), row, strict=True)) for name, row in found.items()}
    (results.FOLDER / "coverage.json").write_text(json.dumps({"rows": rows, "note": note}, indent=1))


def measured(one: SimulatedSet, rounds: int, seed: int) -> dict[str, Tally]:
    random = np.random.default_rng(seed)
    tallies: dict[str, Tally] = defaultdict(Tally)
    for _ in range(rounds):
        for name, item, estimate in one.draw(random):
            tallies[name].estimates[item].append(estimate)
    return tallies


if __name__ == "__main__":
    typer.run(main)
