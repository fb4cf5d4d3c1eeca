"""The one shape of a figure: its value, its 95 % interval, its chance level and its unit."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Estimate:
    """None where a part was not measured; a value that is undefined is NaN."""

    value: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    unit: str = "%"  # "" for a number without one

    @property
    def with_interval(self) -> str:
        """Such as "61.2 (58.0 to 64.4)", for a cell of a table; without brackets where there is no interval."""
        interval = "" if self.low is None else f" ({self.low:.1f} to {self.high:.1f})"
        return f"{self.value:.1f}{interval}"

    def in_percent(self) -> "Estimate":
        """The estimate of a fraction in [0, 1], in %."""
        return self._scaled(100, "%")

    def as_fraction(self) -> "Estimate":
        """The estimate of a fraction in %, in [0, 1]."""
        return self._scaled(0.01, "")

    def _scaled(self, factor: float, unit: str) -> "Estimate":
        low, high, chance = (
            None if part is None else factor * part for part in (self.low, self.high, self.chance)
        )
        return Estimate(factor * self.value, low, high, chance, unit)

    def with_chance(self, chance: float | None) -> "Estimate":
        """The same estimate beside a chance level in its own unit."""
        return replace(self, chance=chance)
