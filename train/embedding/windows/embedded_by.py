"""The checkpoint that a file of `cavsync embed` was made with, found again."""

from collections.abc import Iterator
from pathlib import Path

from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.run import ChosenCheckpoint
from cavsync.train.embedding.windows.window_file import WindowFile, WindowFileError
from cavsync.train.engine.run_folder import WEIGHTS_NAME


def embedded_by(file: WindowFile, runs: Path) -> ChosenCheckpoint:
    """The checkpoint that the file names, or else, by its sha256, the weights of a run under `runs`.

    Raises WindowFileError where neither is that checkpoint.
    """
    wanted, named = file.about.get("checkpoint_sha256"), Path(file.about.get("checkpoint", ""))
    if named.is_file() and sha256(named) == wanted:
        return ChosenCheckpoint(named, f"{file.path} was embedded by it")
    for weights in _weights_under(runs):
        if sha256(weights) == wanted:
            return ChosenCheckpoint(weights, f"{file.path} was embedded by it, when it was {named}")
    state = "is another file now" if named.is_file() else "is not there any more"
    raise WindowFileError(
        f"{file.path} was embedded by the checkpoint {named}, which {state}, and no run under {runs} has it (sha256 "
        f"{str(wanted)[:12]}...). Give it with --checkpoint, or embed the videos again."
    )


def _weights_under(runs: Path) -> Iterator[Path]:
    for pattern in (f"*/{WEIGHTS_NAME}", "*/*.safetensors", "*/checkpoints/step-*.pt"):
        yield from sorted(runs.glob(pattern))
