"""The bounds from which on audio may come from a frame, and from which on unrelated audio is ruled out for a video.

Both bounds are on the similarity that the checkpoint gives: the cosine of the embeddings of a frame and an audio
segment. Its scale differs from model to model, so they are read off clips that the model did not train on. Windows of
one file are alike, and are no independent evidence, so that both bounds count files (conformal prediction of
hierarchical data):

    threshold   the highest similarity that a window of a new file falls below with its own audio in 5 % of the cases at
                most, however the windows of a file resemble each other: every file has the same weight, and the new
                one counts as wholly below. Fewer than 19 files cannot show so little
    limit       the fraction of a file's windows that pass the threshold with the audio of another file, exceeded by
                5 % of such pairs at most. Each file is in one pair, so that pairs are independent: n files make n / 2
                of them, and 38 files are needed for 5 %. Fewer allow `limit_error_rate`, which is stated

Both hold for videos like those clips (`familiarity.py`), however the values are distributed. Where they are read off fewer
than 19 files, or unrelated audio passes as often as a clip's own, no verdict is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Subset

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.embedding.windows.window_file import WindowFile
from cavsync.train.inference.localize.familiarity import CalibrationEmbeddings

# The fraction of errors that each bound allows.
ERROR_RATE = 0.05
# So few files can show that rate, for windows: one of as many and a new one is 5 %.
MIN_FILES = round(1 / ERROR_RATE) - 1
# Sums of weights are equal within this.
ROUNDING = 1e-9
# Clips of a dataset, drawn at random, and frames of each, evenly spaced.
MAX_CLIPS, PAIRS_PER_CLIP = 128, 8
# Windows of a file that are compared with those of another.
MAX_WINDOWS_OF_FILE = 256
SEED = 0

OnClip = Callable[[int, int], None]


class CalibrationError(CavsyncError):
    """Too few files with frames and audio to calibrate with."""


@dataclass(frozen=True)
class Calibration:
    """Similarities of frames with their own audio, and with the audio of another file."""

    matched: tuple[np.ndarray, ...]  # for each file (P,): its frames with their own segments
    unrelated: tuple[
        np.ndarray, ...
    ]  # for each pair of files (P, K): frames of one with K segments of the other
    source: str  # of the files, as reports name it
    num_segments: int = 1
    """How many segments a frame is compared with, of which the best counts. With more, unrelated ones pass more often."""
    image: CalibrationEmbeddings | None = None  # of the clips' frames
    audio: CalibrationEmbeddings | None = None  # of their audio

    @property
    def num_files(self) -> int:
        return len(self.matched)

    @property
    def is_sufficient(self) -> bool:
        """Whether a threshold can be read off so many files."""
        return self.num_files >= MIN_FILES

    @cached_property
    def threshold(self) -> float:
        """A frame and an audio segment pass from this similarity on; of too few files, all of their own windows do."""
        weights = np.concatenate([np.full(len(one), 1 / len(one)) for one in self.matched])
        values = np.concatenate(self.matched)
        order = np.argsort(values, kind="stable")
        below = weights[order].cumsum()  # in files, with each value itself
        allowed = max(0.0, ERROR_RATE * (self.num_files + 1) - 1)
        return float(values[order][np.searchsorted(below, allowed + ROUNDING, side="right")])

    @property
    def unrelated_fraction(self) -> float:
        """Of frames with unrelated audio, those that pass."""
        return float(np.concatenate(self._unrelated_passes()).mean())

    @property
    def limit(self) -> float:
        """Audio is found in a video of which a larger fraction of windows passes; of few pairs, the most of any."""
        fractions = np.sort([float(passes.mean()) for passes in self._unrelated_passes()])
        return float(fractions[-self._limit_rank])

    @property
    def limit_error_rate(self) -> float:
        """Of videos with unrelated audio, the largest fraction in which it is found: 5 %, and more of fewer than 38 files."""
        return self._limit_rank / (len(self.unrelated) + 1)

    @property
    def _limit_rank(self) -> int:
        """Of n values and one more in random order, the new one is beyond the k-th highest with k / (n + 1)."""
        return max(1, int(ERROR_RATE * (len(self.unrelated) + 1) + ROUNDING))

    @property
    def is_reliable(self) -> bool:
        """Whether a video's own audio, most of which passes, is distinguished from unrelated audio."""
        return self.is_sufficient and self.limit < 1 - ERROR_RATE

    def _unrelated_passes(self) -> list[np.ndarray]:
        """(P,) bool for each pair of files. Frame p is compared with segment p, and with others spread over the file."""
        passes = []
        for similarity in self.unrelated:
            num_frames, num_known = similarity.shape
            num_compared = min(self.num_segments, num_known)
            compared = np.arange(num_frames)[:, None] + np.arange(num_compared) * num_known // num_compared
            best = np.take_along_axis(similarity, compared % num_known, axis=1).max(axis=1)
            passes.append(best >= self.threshold)
        return passes


def calibrate(
    embedder: Embedder, by: Path | None = None, on_clip: OnClip = lambda done, total: None
) -> Calibration | None:
    """With the dataset or file of `cavsync embed` that is named, else with the test clips of the checkpoint's run.

    None where those are not there.
    """
    if by is not None and not by.is_dir():
        file = WindowFile.open(by)
        file.require_checkpoint(embedder.checkpoint.weights, embedder.about)
        return calibrate_by_file(file)
    folders = held_out(embedder) if by is None else (str(by),)
    return calibrate_by_datasets(embedder, folders, on_clip) if folders else None


def calibrate_by_datasets(
    embedder: Embedder, folders: Sequence[str], on_clip: OnClip = lambda done, total: None
) -> Calibration:
    """With test clips of prepared datasets, cut as the model's training cut them."""
    inputs, model = embedder.checkpoint.inputs, embedder.checkpoint.model.config
    datasets = list(map(Dataset.open, folders))
    clips = ClipAllPairs(replace(inputs.on(folders[0]), split="test", num_workers=0), model, datasets)
    drawn = np.random.default_rng(SEED).permutation(len(clips))[:MAX_CLIPS].tolist()
    frames, segments, numbers = [], [], []
    for number, item in enumerate(DataLoader(Subset(clips, drawn), batch_size=None)):
        last = len(item["image"]) - 1
        chosen = np.unique(np.linspace(0, last, PAIRS_PER_CLIP).round().astype(int))
        frames.append(embedder.unit_frames(item["image"][chosen]))
        segments.append(embedder.unit_segments(item["audio"][chosen]))
        numbers += [number] * len(chosen)
        on_clip(number + 1, len(drawn))
    source = f"{len(drawn)} test clips of {', '.join(folders)}"
    return _calibration(np.concatenate(segments), np.concatenate(frames), np.array(numbers), source)


def calibrate_by_file(file: WindowFile) -> Calibration:
    """With the windows of embedded files that have both a frame and audio."""
    audio, image = (
        np.concatenate([np.empty((0, file.width)), *file.vectors(side)]) for side in ("audio", "image")
    )
    both = np.isfinite(audio).all(axis=1) & np.isfinite(image).all(axis=1)
    numbers = np.unique(file.places().column("file").to_pylist(), return_inverse=True)[1]
    return _calibration(audio[both], image[both], numbers[both], f"the windows of {file.path}")


def held_out(embedder: Embedder) -> tuple[str, ...]:
    """The datasets of the run that the checkpoint lies in, as far as they are there and have a test split."""
    checkpoint = embedder.checkpoint
    if checkpoint.is_published:
        return ()
    there = [path for path in checkpoint.inputs.paths if DatasetPaths(Path(path)).summary.is_file()]
    return tuple(path for path in there if "test" in Dataset.open(path).summary["splits"].values())


def _calibration(audio: np.ndarray, image: np.ndarray, origins: np.ndarray, source: str) -> Calibration:
    """Of (N, D) unit vectors of N pairs; `origins` (N,) is the index of each pair's file or clip.

    Files are paired at random; the unrelated audio is that of the other file of a pair.
    """
    files = [np.flatnonzero(origins == origin) for origin in np.unique(origins)]
    if len(files) < 2:
        raise CalibrationError(
            f"{source} are of fewer than two files with both frames and audio, so there is no unrelated audio."
        )
    order = np.random.default_rng(SEED).permutation(len(files))
    similarity = (audio * image).sum(axis=1)
    # A part of long files is enough for what is measured, and keeps the products small.
    unrelated = [
        image[files[one][:MAX_WINDOWS_OF_FILE]] @ audio[files[other][:MAX_WINDOWS_OF_FILE]].T
        for one, other in zip(
            order[::2], order[1::2], strict=False
        )  # of an odd number the last has no partner
    ]
    return Calibration(
        matched=tuple(similarity[file] for file in files),
        unrelated=tuple(unrelated),
        source=source,
        image=CalibrationEmbeddings.of(image, origins),
        audio=CalibrationEmbeddings.of(audio, origins),
    )
