"""What every tracker does, and the run that it tracks."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from cavsync.errors import CavsyncError

TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow"]


class TrackerError(CavsyncError):
    """A tracker that is not installed, or that cannot begin; the message says what helps."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run before its first step, as trackers need it."""

    run_dir: Path
    project: str
    config: Mapping[str, Any]
    """The resolved configuration, nested."""
    steps_done: int
    """More than 0 where the run is resumed."""

    @property
    def name(self) -> str:
        return self.run_dir.resolve().name

    def flat_config(self) -> dict[str, Any]:
        """The configuration by dotted names."""
        return dict(_flat(self.config))


class Tracker(Protocol):
    """One tracked run; its functions raise whatever its library raises."""

    @property
    def key(self) -> str | None:
        """By which the same tracked run is found again when the run is resumed; None where the run folder says it."""
        ...

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Logs values after `step` steps, as "group/name"."""
        ...

    def image(self, name: str, png: bytes, step: int) -> None:
        """Logs a PNG after `step` steps."""
        ...

    def close(self, complete: bool) -> None:
        """Ends the tracked run: `complete`, or stopped and to be resumed."""
        ...


def by_path(group: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values as "group/name", without the step."""
    return {f"{group}/{name}": value for name, value in values.items() if name != "step"}


def decoded(png: bytes) -> Image.Image:
    """The image, in RGB."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for name, value in content.items()
        for pair in (
            _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
        )
    ]
