"""How alike a picture and a sound must be for the sound to come from something in the picture.

The measure is the checkpoint's own: the cosine of their embeddings. Its scale differs from model to model, so it is
read off pairs that belong together, a picture and the sound around it, in clips that the model did not train on. The
threshold is the highest that at most `missed` of such pairs fall below: sound that does come from the picture is denied
that rarely, however the values are distributed, as long as it is like those clips (split conformal prediction). What
share of foreign sounds passes is measured beside it; where most pass, the model cannot tell, and no verdict is given.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Subset

from cavsync.pipeline.dataset import Dataset
from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.shards import DatasetPaths
from cavsync.train.data import ClipAllPairs
from cavsync.train.evaluation.task import PUBLISHED_INPUTS, trained_inputs
from cavsync.train.use.embedder import Embedder
from cavsync.train.use.window_file import WindowFile

# Of pairs that belong together, those whose sound is denied.
MISSED = 0.05
# A model that lets more foreign sounds pass cannot tell.
MOST_FOREIGN = 0.5
# Of a dataset's clips, drawn at random; and of a clip's pictures, evenly.
MOST_CLIPS, PAIRS_PER_CLIP = 128, 4
SEED = 0

OnClip = Callable[[int, int], None]


class CalibrationError(CavsyncError):
    """Nothing to calibrate by."""


@dataclass(frozen=True)
class Calibration:
    """Likeness of pictures with their own sound, and with the sound of another file."""

    own: np.ndarray  # (N,)
    foreign: np.ndarray  # (M,)
    source: str  # what the pairs are from, for people
    missed: float = MISSED

    def __post_init__(self) -> None:
        if self._rank < 1:
            raise CalibrationError(
                f"{self.source} gives {len(self.own)} pairs of picture and sound; a threshold that denies "
                f"{self.missed:.0%} of them needs {round(1 / self.missed) - 1} or more."
            )

    @property
    def _rank(self) -> int:
        return int(self.missed * (len(self.own) + 1))

    @property
    def threshold(self) -> float:
        """A pair from it on passes. Of N + 1 pairs in random order, the new one is below the k-th with k / (N + 1)."""
        return float(np.sort(self.own)[self._rank - 1])

    @property
    def foreign_share(self) -> float:
        """Of foreign sounds, those that pass."""
        return float((self.foreign >= self.threshold).mean())

    @property
    def tells(self) -> bool:
        return self.foreign_share <= MOST_FOREIGN

    @property
    def least_share(self) -> float:
        """Of a video's windows: where more pass, it is sooner its own sound than a foreign one."""
        return (self.foreign_share + 1 - self.missed) / 2


def calibrate(
    embedder: Embedder, by: Path | None = None, on_clip: OnClip = lambda done, total: None
) -> Calibration | None:
    """By the dataset or file of `cavsync embed` that is named, else by the test clips of the checkpoint's own run; None
    where those are not there.
    """
    if by is not None and not by.is_dir():
        file = WindowFile.open(by)
        file.require_checkpoint(embedder.weights, embedder.about)
        return calibrate_by_file(file)
    folder = by or held_out(embedder)
    return None if folder is None else calibrate_by_dataset(embedder, folder, on_clip)


def calibrate_by_dataset(
    embedder: Embedder, folder: Path | str, on_clip: OnClip = lambda done, total: None
) -> Calibration:
    """By test clips of a prepared dataset, cut as the model's training cut them."""
    data = replace(trained_inputs(embedder.weights) or PUBLISHED_INPUTS, path=str(folder), split="test")
    clips = ClipAllPairs(replace(data, num_workers=0), embedder.model.config)
    drawn = np.random.default_rng(SEED).permutation(len(clips))[:MOST_CLIPS].tolist()
    pictures, sounds, numbers = [], [], []
    for number, item in enumerate(DataLoader(Subset(clips, drawn), batch_size=None)):
        chosen = np.linspace(0, len(item["image"]) - 1, PAIRS_PER_CLIP).round().astype(int)
        pictures.append(embedder.unit_pictures(item["image"][chosen]))
        sounds.append(embedder.unit_sounds(item["audio"][chosen]))
        numbers += [number] * len(chosen)
        on_clip(number + 1, len(drawn))
    source = f"{len(drawn)} test clips of {folder}"
    return _calibration(np.concatenate(sounds), np.concatenate(pictures), np.array(numbers), source)


def calibrate_by_file(file: WindowFile) -> Calibration:
    """By windows of embedded files that have both picture and sound."""
    audio, image = (
        np.concatenate([np.empty((0, file.width)), *file.vectors(side)]) for side in ("audio", "image")
    )
    both = np.isfinite(audio).all(axis=1) & np.isfinite(image).all(axis=1)
    names = np.array(file.places().column("file").to_pylist(), dtype=object)[both]
    return _calibration(audio[both], image[both], names, f"the windows of {file.path}")


def held_out(embedder: Embedder) -> Path | None:
    """The dataset of the run that the checkpoint lies in, where it is there and has a test split."""
    inputs = trained_inputs(embedder.weights)
    if inputs is None or not DatasetPaths(Path(inputs.path)).summary.is_file():
        return None
    splits = Dataset.open(inputs.path).summary["splits"]
    return Path(inputs.path) if "test" in splits.values() else None


def _calibration(audio: np.ndarray, image: np.ndarray, origins: np.ndarray, source: str) -> Calibration:
    """`origins` (N,) say which file or clip a pair is of."""
    if len(set(origins.tolist())) < 2:
        raise CalibrationError(
            f"{source} are of fewer than two files with both picture and sound; foreign sounds are missing."
        )
    shuffled = np.random.default_rng(SEED).permutation(len(origins))
    foreign = origins != origins[shuffled]
    return Calibration(
        own=(audio * image).sum(axis=1),
        foreign=(audio[shuffled] * image).sum(axis=1)[foreign],
        source=source,
    )
