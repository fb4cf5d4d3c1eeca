"""Trackio: a local database, or what its own environment variables name."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

from cavsync.train.engine.tracking.tracker import TrackedRun, by_path, decoded


class TrackioRun:
    """A run of a trackio project; `trackio show` shows it."""

    def __init__(self, run: TrackedRun, key: str | None) -> None:
        import trackio

        self._trackio = trackio
        with redirect_stdout(sys.stderr):  # it prints how to look at it
            self._run = trackio.init(
                project=run.project,
                name=key or run.name,
                config=run.flat_config(),
                resume="must" if key else "never",
                embed=False,
            )
        self.key = str(self._run.name)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        self._run.log(by_path(group, values), step=step)

    def image(self, name: str, png: bytes, step: int) -> None:
        image = self._trackio.Image(decoded(png))
        self._run.log({name: image}, step=step)

    def close(self, complete: bool) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()
