"""A Python with this folder on PYTHONPATH, and each that it starts, has none of the libraries that decode, stream or schedule."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT = {"av", "decord", "ffmpeg", "imageio_ffmpeg", "ray", "webdataset"}


class Absence(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r} (left out by this test)", name=name)
        return None


sys.meta_path.insert(0, Absence())
