"""From raw videos to a trained, evaluated and usable CAV-MAE Sync model.

What Python code may rely on; everything else may change between releases. Each name loads on its first use, so that
`import cavsync` is light.

load_model        a CAV-MAE Sync, CAV-MAE or classifier file to a model
embed             videos to unit vectors of their frames and audio segments, with times
localize          a video to heatmaps of where in its frames its audio comes from
Dataset           a prepared dataset: its splits, its index, its clips
open_run          a folder of `cavsync train`: configuration, metrics, model
LoadedCheckpoint  a model with its preprocessing on its device, loaded once for many calls of embed and localize
CavsyncError      the root of every error that the user can fix
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cavsync.errors import CavsyncError

if TYPE_CHECKING:
    from cavsync.model.checkpoints.checkpoint import load_model
    from cavsync.pipeline.dataset.reader import Dataset
    from cavsync.train.data.run import open_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.embedding.embed import embed
    from cavsync.train.inference.localize.video import localize

    __version__: str

__all__ = [
    "CavsyncError",
    "Dataset",
    "LoadedCheckpoint",
    "__version__",
    "embed",
    "load_model",
    "localize",
    "open_run",
]

_OWNERS = {
    "LoadedCheckpoint": "cavsync.train.embedding.checkpoint",
    "Dataset": "cavsync.pipeline.dataset.reader",
    "embed": "cavsync.train.embedding.embed",
    "load_model": "cavsync.model.checkpoints.checkpoint",
    "localize": "cavsync.train.inference.localize.video",
    "open_run": "cavsync.train.data.run",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Every command imports this module, and few need the version: reading the metadata takes longer than the rest.
        from importlib.metadata import version

        return version("cavsync")
    if name not in _OWNERS:
        raise AttributeError(f"module 'cavsync' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_OWNERS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
