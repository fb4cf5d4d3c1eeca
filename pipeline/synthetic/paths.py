"""Paths of a world's files, in the conventional layout that `cavsync prepare --root` reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cavsync.pipeline.synthetic.clip import WorldClip


@dataclass(frozen=True)
class WorldPaths:
    """Paths below the world's folder."""

    root: Path

    @property
    def summary(self) -> Path:
        """Written last: the world is complete if this exists."""
        return self.root / "world.json"

    @property
    def config(self) -> Path:
        """Written first: the configuration of an unfinished world."""
        return self.root / "world.config.json"

    @property
    def vggsound(self) -> Path:
        return self.root / "raw/vggsound"

    @property
    def audioset(self) -> Path:
        return self.root / "raw/audioset"

    @property
    def partial(self) -> Path:
        """Folder of files that are being written."""
        return self.root / "partial"

    def video(self, clip: WorldClip) -> Path:
        return self.vggsound / f"videos/{clip.stem}.mp4"

    def audioset_video(self, clip: WorldClip) -> Path:
        """The same file under AudioSet's name of a cut clip."""
        return self.audioset / f"videos/{clip.clip_id}_{clip.start_s:.3f}.mp4"

    def masks(self, clip: WorldClip) -> Path:
        return self.root / f"masks/{clip.stem}.png"

    def make_folders(self) -> None:
        for folder in (self.partial, self.root / "masks", self.vggsound / "videos", self.audioset / "videos"):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def written(self, path: Path) -> Iterator[Path]:
        """A temporary path, which is renamed to `path` when the block ends without an error."""
        partial = self.partial / f"{os.getpid()}.{path.name}"
        yield partial
        partial.replace(path)


def masks_beside(video: Path) -> Path:
    """The mask file of a world's clip, from the video that `cavsync prepare vggsound` read."""
    return video.absolute().parent.parent.parent.parent / f"masks/{video.stem}.png"
