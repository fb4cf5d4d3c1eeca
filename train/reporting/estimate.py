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
        parts = (self.value, self.low, self.high, self.chance)
        value, low, high, chance = (None if part is None else 100 * part for part in parts)
        assert value is not None
        return Estimate(value, low, high, chance)

    def with_chance(self, chance: float | None) -> "Estimate":
        """The same estimate beside a chance level in its own unit."""
        return replace(self, chance=chance)
