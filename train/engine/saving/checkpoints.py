"""The checkpoints of a run: each is one file, written whole or not at all."""

import logging
import shutil
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import publish, temporary_name
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.train.engine.mirror.run_mirror import RunMirror

FORMAT = "cavsync-training-1"

logger = logging.getLogger(__name__)


class ResumeError(CavsyncError):
    """A training checkpoint that cannot be continued from."""


class Checkpoints:
    """The folder `checkpoints/` of a run: `step-000500.pt`, and `last.pt` which points to the newest.

    Of a run at a URL, `mirror` has them; the newest alone is in the local folder too.
    """

    def __init__(self, run_dir: Path, keep: int | None = None, mirror: RunMirror | None = None) -> None:
        self.folder, self.keep, self.mirror = run_dir / "checkpoints", keep, mirror

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.pt"

    def newest(self) -> Path | None:
        return max(self._stored(), default=None, key=_step_of)

    def newest_whole(self) -> Path | None:
        """The newest undamaged checkpoint. Newer ones are named in a warning and set aside; None if there are none at all, CheckpointError if none of them is whole."""
        paths = sorted(self._stored(), key=_step_of, reverse=True)
        for number, path in enumerate(paths):
            self._fetch(path)
            if damage(path) is None:
                for damaged in paths[:number]:
                    self._set_aside(damaged, path)
                return path
        if paths:
            raise ResumeError(
                f"No checkpoint in {self.mirror.url if self.mirror else self.folder} is whole, {paths[0].name} is not: {damage(paths[0])}. "
                "Start the run again in another folder with --run."
            )
        return None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state`, of tensors on the CPU and plain values, and drop the oldest beyond `keep`."""
        path = self.path(step)
        temporary = temporary_name(path)
        try:
            torch.save({"format": FORMAT, "step": step, **state}, temporary)
            publish(temporary, path)
        # On a full disk torch reports only that its file is shorter than it should be.
        except (OSError, RuntimeError) as error:
            raise self._not_written(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._point_to(path)
        self._put(path)
        self._drop_old()
        return path

    def load(self, path: Path) -> dict[str, Any]:
        """The state that `save` wrote, on the CPU; CheckpointError where the file holds another thing."""
        self._fetch(path)
        reason = damage(path)
        if reason is not None:
            raise ResumeError(f"{path} is damaged ({reason}). Delete it to continue from the one before.")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError) as error:
            raise ResumeError(f"{path} is no checkpoint: {str(error).splitlines()[0]}") from error
        if state.get("format") != FORMAT:
            raise ResumeError(f"{path} is no checkpoint of a cavsync run: it holds {', '.join(state)}.")
        return state

    def drop_leftovers(self) -> None:
        """Remove what a killed `save` left."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def _set_aside(self, path: Path, before: Path) -> None:
        aside = path.with_suffix(".damaged")
        logger.warning(
            "%s is damaged (%s): it is now %s, and %s is used.", path, damage(path), aside.name, before.name
        )
        path.replace(aside)
        if self.mirror is not None:
            self.mirror.put_checkpoint(aside.name)
            self.mirror.remove_checkpoint(path.name)
        self._point_to(before)

    def _not_written(self, path: Path, error: Exception) -> ResumeError:
        newest, free_gb = self.newest(), shutil.disk_usage(self.folder).free / 1e9
        kept = "There was none before it" if newest is None else f"{newest.name}, before it, is whole"
        return ResumeError(
            f"{path} cannot be written ({str(error).splitlines()[0]}); its disk has {free_gb:.1f} GB free. {kept}: "
            "make room, then continue with --resume."
        )

    def _point_to(self, path: Path) -> None:
        link = temporary_name(self.folder / "last.pt")
        link.symlink_to(path.name)
        link.replace(self.folder / "last.pt")

    def _drop_old(self) -> None:
        old = sorted(self._stored(), key=_step_of)[: -self.keep] if self.keep is not None else []
        for path in old:
            if self.mirror is None:
                path.unlink()
            else:
                self.mirror.remove_checkpoint(path.name)
        if self.mirror is not None:
            for path in sorted(self.folder.glob("step-*.pt"), key=_step_of)[:-1]:
                path.unlink()

    def _stored(self) -> list[Path]:
        """The checkpoints there are, as local paths, in no order."""
        if self.mirror is None:
            return list(self.folder.glob("step-*.pt"))
        return [self.folder / name for name in self.mirror.checkpoint_names()]

    def _fetch(self, path: Path) -> None:
        if self.mirror is not None:
            self.mirror.fetch_checkpoint(path.name)

    def _put(self, path: Path) -> None:
        if self.mirror is None:
            return
        try:
            self.mirror.put_checkpoint(path.name)
        except StoreError as error:
            raise ResumeError(
                f"{error} The checkpoint is whole in {path}: copy it to {self.mirror.url}/checkpoints/ and continue with "
                "--resume, or continue from the one before it, which is there."
            ) from error


def damage(path: Path) -> str | None:
    """What is damaged in the file, by the checksums in it; None where nothing is. (torch reads past a flipped bit.)"""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
    return None if member is None else f"the checksum of {member} is another"


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
