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
