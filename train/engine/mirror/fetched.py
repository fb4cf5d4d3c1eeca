"""Weights of a run at a URL, copied here for reading.

The copy lies in the user's cache, in a folder for each URL and state of the file, with the run's config.json beside it.
"""

import hashlib
import os
from pathlib import Path

from cavsync.pipeline.storage.path import stamp
from cavsync.pipeline.storage.remote_path import RemotePath
from cavsync.train.engine.mirror.run_mirror import CHECKPOINTS, checkpoint_names, fetch_file


def fetched_weights(where: RemotePath, weights_name: str, config_name: str) -> Path | None:
    """The newest weights of the run folder `where`, or the file itself; None for a folder without.

    Downloaded at the first use, and again when the file there has changed.
    """
    if where.is_file():
        return _fetched(*_run_of(where), config_name)
    if (where / weights_name).is_file():
        return _fetched(where, weights_name, config_name)
    return fetched_checkpoint(where, config_name)


def fetched_checkpoint(where: RemotePath, config_name: str) -> Path | None:
    """The newest training checkpoint of the run folder `where`, or the file itself; None for a folder without."""
    if where.is_file():
        return _fetched(*_run_of(where), config_name)
    names = checkpoint_names(where)
    newest = max(names, default=None, key=lambda name: int(name.removeprefix("step-").removesuffix(".pt")))
    return None if newest is None else _fetched(where, f"{CHECKPOINTS}/{newest}", config_name)


def _fetched(run: RemotePath, name: str, config_name: str) -> Path:
    """The local copy of a file of the run folder, in a folder with its config.json."""
    source = run / name
    digest = hashlib.sha256(f"{source} {stamp(source)}".encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(cache, "cavsync", "runs", f"{run.name}-{digest}")
    config = run / config_name
    if not (folder / name).exists():
        if config.is_file():
            fetch_file(config, folder / config_name)
        fetch_file(source, folder / name)
    return folder / name


def _run_of(file: RemotePath) -> tuple[RemotePath, str]:
    """The run folder that a file lies in, and its name there."""
    folder = file.parent
    if folder.name == CHECKPOINTS:
        return folder.parent, f"{CHECKPOINTS}/{file.name}"
    return folder, file.name
