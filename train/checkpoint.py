"""What a run leaves on disk to continue from: one file a checkpoint, whole or absent."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.shards import publish, temporary_name

FORMAT = "cavsync-training-1"


class CheckpointError(CavsyncError):
    """A training checkpoint that cannot be continued from."""


class Checkpoints:
    """The folder `checkpoints/` of a run: `step-000500.pt`, and `last.pt` which points to the newest."""

    def __init__(self, run_dir: Path, keep: int | None = None) -> None:
        self.folder, self.keep = run_dir / "checkpoints", keep

    def newest(self) -> Path | None:
        return max(self.folder.glob("step-*.pt"), default=None, key=_step_of)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state`, of tensors and plain values, and drop the oldest beyond `keep`."""
        path = self.folder / f"step-{step:06d}.pt"
        temporary = temporary_name(path)
        try:
            torch.save({"format": FORMAT, "step": step, **state}, temporary)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._point_to(path)
        self._drop_old()
        return path

    def load(self, path: Path) -> dict[str, Any]:
        """The state that `save` wrote, on the CPU; CheckpointError where the file holds another thing."""
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise CheckpointError(
                f"{path} is damaged ({str(error).splitlines()[0]}). Delete it to continue from the one before."
            ) from error
        if state.get("format") != FORMAT:
            raise CheckpointError(f"{path} is no checkpoint of a cavsync run: it holds {', '.join(state)}.")
        return state

    def drop_leftovers(self) -> None:
        """Remove what a killed `save` left; nobody else writes here."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def _point_to(self, path: Path) -> None:
        link = temporary_name(self.folder / "last.pt")
        link.symlink_to(path.name)
        link.replace(self.folder / "last.pt")

    def _drop_old(self) -> None:
        if self.keep is not None:
            for path in sorted(self.folder.glob("step-*.pt"), key=_step_of)[: -self.keep]:
                path.unlink()


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
