"""The trackers that a run asks for, all at once.

trackers.json in the run folder holds the key of each tracked run, by which a resumed run continues it.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.tracking.mlflow_run import MlflowRun
from cavsync.train.engine.tracking.tensorboard_events import TensorboardEvents
from cavsync.train.engine.tracking.tracker import TrackedRun, Tracker, TrackerError, TrackerName
from cavsync.train.engine.tracking.trackio_run import TrackioRun
from cavsync.train.engine.tracking.wandb_run import WandbRun

KEYS_NAME = "trackers.json"
KINDS: dict[TrackerName, Callable[[TrackedRun, str | None], Tracker]] = {
    "tensorboard": TensorboardEvents,
    "trackio": TrackioRun,
    "wandb": WandbRun,
    "mlflow": MlflowRun,
}

logger = logging.getLogger(__name__)


def require_installed(names: Sequence[TrackerName]) -> None:
    """TrackerError where a tracker's package is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise TrackerError(
            f"monitor.tracker names {', '.join(missing)}, which cavsync does not bring: pip install {' '.join(missing)}, or "
            "leave it out with --set monitor.tracker=tensorboard."
        )


class Trackers:
    """The trackers of one run; one that fails gets nothing more, and the run goes on."""

    def __init__(self, names: Sequence[TrackerName], run: TrackedRun) -> None:
        """Raises TrackerError where one of them cannot begin."""
        self._path = run.run_dir / KEYS_NAME
        keys = stored_keys(run.run_dir)
        self._open: dict[TrackerName, Tracker] = {}
        self._names = tuple(names)
        for name in names:
            try:
                self._open[name] = KINDS[name](run, keys.get(name))
            except Exception as error:
                raise TrackerError(
                    f"The tracker {name} cannot begin: {error}. Mend that, or leave it out: --set monitor.tracker=none, or "
                    "those that work."
                ) from error
        given: dict[str, str] = {
            name: tracker.key for name, tracker in self._open.items() if tracker.key is not None
        }
        if given.items() - keys.items():
            keys |= given
            write_atomically(self._path, json.dumps(keys, indent=1).encode())

    @property
    def failed(self) -> tuple[TrackerName, ...]:
        """Those that get nothing more."""
        return tuple(name for name in self._names if name not in self._open)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Logs values after `step` steps, as "group/name"."""
        self._each(lambda tracker: tracker.numbers(group, values, step), step)

    def image(self, name: str, png: bytes, step: int) -> None:
        """Logs a PNG after `step` steps."""
        self._each(lambda tracker: tracker.image(name, png, step), step)

    def close(self, complete: bool, step: int) -> None:
        """Ends the tracked runs; a run that is not `complete` may continue them."""
        self._each(lambda tracker: tracker.close(complete), step)

    def _each(self, call: Callable[[Tracker], None], step: int) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 (libraries raise anything, such as where a network is down)
                del self._open[name]
                logger.warning(
                    "The tracker %s failed at step %d and gets nothing more: %s. The run goes on.",
                    name,
                    step,
                    error,
                )


def stored_keys(run_dir: Path) -> dict[str, str]:
    """The key of each tracked run of a run folder, by the name of its tracker; none where nothing was tracked."""
    path = run_dir / KEYS_NAME
    if not path.is_file():
        return {}
    try:
        keys: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise TrackerError(
            f"{path} is damaged ({error}): remove it, and a new tracked run begins."
        ) from error
    return keys
