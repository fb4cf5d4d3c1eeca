"""From when on a sound may come from a picture, and from when on a video from a foreign sound.

The measure is the checkpoint's own: the cosine of the embeddings of picture and sound. Its scale differs from model to
model, so both bounds are read off clips that the model did not train on (split conformal prediction):

    threshold   the highest likeness that at most 5 % of the pictures with their own sound fall below: in a window, sound
                that does come from the picture is denied that rarely
    limit       the share of a clip's windows that pass the threshold, exceeded by at most 5 % of the clips when each
                gets another clip's sound: a foreign sound is said to be found in a video that rarely

Both hold for videos like those clips, however the values are distributed. Where foreign sounds pass as often as a
clip's own, the model cannot tell, and no verdict is given.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Subset

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.embedding.window_file import WindowFile

# The share of errors that each bound allows.
ERRORS = 0.05
# Of a dataset's clips, drawn at random; and of a clip's pictures, evenly.
MOST_CLIPS, PAIRS_PER_CLIP = 128, 8
# Windows of a file.
MOST_OF_FILE = 256
SEED = 0

OnClip = Callable[[int, int], None]


class CalibrationError(CavsyncError):
    """Nothing to calibrate by."""


@dataclass(frozen=True)
class Calibration:
    """Likeness of pictures with their own sound, and with the sound of another file."""

    own: np.ndarray  # (N,)
    foreign: tuple[np.ndarray, ...]  # one a file: (P, K) its pictures with K sounds of another file
    source: str  # what the pairs are from, for people
    num_sounds: int = 1
    """How many sounds a picture is asked for, of which the likest counts. With more, foreign ones pass more often."""

    def __post_init__(self) -> None:
        if self._rank(len(self.own)) < 1:
            raise CalibrationError(
                f"{self.source} give {len(self.own)} pairs of picture and sound; a bound that {ERRORS:.0%} of them may "
                f"miss needs {round(1 / ERRORS) - 1} or more."
            )

    @staticmethod
    def _rank(number: int) -> int:
        """Of `number` values and one more in random order, the new one is beyond the k-th with k / (number + 1)."""
        return int(ERRORS * (number + 1))

    @property
    def threshold(self) -> float:
        """A picture and a sound pass from this likeness on."""
        return float(np.sort(self.own)[self._rank(len(self.own)) - 1])

    @property
    def foreign_share(self) -> float:
        """Of pictures with foreign sounds, those that pass."""
        return float(np.concatenate(self._foreign_passes()).mean())

    @property
    def limit(self) -> float:
        """A sound is found in a video of which a larger share of the windows passes; of few files, the most of any."""
        shares = np.sort([float(passes.mean()) for passes in self._foreign_passes()])
        return float(shares[-max(1, self._rank(len(shares)))])

    @property
    def tells(self) -> bool:
        """Whether a video's own sound, most of which passes, can be told from a foreign one."""
        return self.limit < 1 - ERRORS

    def _foreign_passes(self) -> list[np.ndarray]:
        """(P,) bool for each file. Picture p is asked for sound p, and others spread over the file, which are as various
        as any.
        """
        passes = []
        for likeness in self.foreign:
            num_pictures, num_known = likeness.shape
            num_asked = min(self.num_sounds, num_known)
            asked = np.arange(num_pictures)[:, None] + np.arange(num_asked) * num_known // num_asked
            likest = np.take_along_axis(likeness, asked % num_known, axis=1).max(axis=1)
            passes.append(likest >= self.threshold)
        return passes


def calibrate(
    embedder: Embedder, by: Path | None = None, on_clip: OnClip = lambda done, total: None
) -> Calibration | None:
    """By the dataset or file of `cavsync embed` that is named, else by the test clips of the checkpoint's own run; None
    where those are not there.
    """
    if by is not None and not by.is_dir():
        file = WindowFile.open(by)
        file.require_checkpoint(embedder.checkpoint.weights, embedder.about)
        return calibrate_by_file(file)
    folder = by or held_out(embedder)
    return None if folder is None else calibrate_by_dataset(embedder, folder, on_clip)


def calibrate_by_dataset(
    embedder: Embedder, folder: Path | str, on_clip: OnClip = lambda done, total: None
) -> Calibration:
    """By test clips of a prepared dataset, cut as the model's training cut them."""
    inputs, model = embedder.checkpoint.inputs, embedder.checkpoint.model.config
    clips = ClipAllPairs(replace(inputs, path=str(folder), split="test", num_workers=0), model)
    drawn = np.random.default_rng(SEED).permutation(len(clips))[:MOST_CLIPS].tolist()
    pictures, sounds, numbers = [], [], []
    for number, item in enumerate(DataLoader(Subset(clips, drawn), batch_size=None)):
        last = len(item["image"]) - 1
        chosen = np.unique(np.linspace(0, last, PAIRS_PER_CLIP).round().astype(int))
        pictures.append(embedder.unit_frames(item["image"][chosen]))
        sounds.append(embedder.unit_segments(item["audio"][chosen]))
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
    numbers = np.unique(file.places().column("file").to_pylist(), return_inverse=True)[1]
    return _calibration(audio[both], image[both], numbers[both], f"the windows of {file.path}")


def held_out(embedder: Embedder) -> Path | None:
    """The dataset of the run that the checkpoint lies in, where it is there and has a test split."""
    checkpoint = embedder.checkpoint
    inputs = checkpoint.inputs
    if checkpoint.is_published or not DatasetPaths(Path(inputs.path)).summary.is_file():
        return None
    splits = Dataset.open(inputs.path).summary["splits"]
    return Path(inputs.path) if "test" in splits.values() else None


def _calibration(audio: np.ndarray, image: np.ndarray, origins: np.ndarray, source: str) -> Calibration:
    """`origins` (N,) number the file or clip that a pair is of. Each file's foreign sound is that of one other file."""
    files = [np.flatnonzero(origins == origin) for origin in np.unique(origins)]
    if len(files) < 2:
        raise CalibrationError(
            f"{source} are of fewer than two files with both picture and sound; foreign sounds are missing."
        )
    order = np.random.default_rng(SEED).permutation(len(files))
    pairs = zip(order, np.roll(order, 1), strict=True)
    # Of long files a part: what is measured does not need more, and the products would.
    foreign = [
        image[files[one][:MOST_OF_FILE]] @ audio[files[other][:MOST_OF_FILE]].T for one, other in pairs
    ]
    return Calibration((audio * image).sum(axis=1), tuple(foreign), source)
