"""The datasets of a run: opened, checked to be prepared alike, and their log-mel statistics as one."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from cavsync.pipeline.dataset.reader import Dataset, DatasetError

# Choices of `cavsync prepare` that a model sees in its inputs.
SEEN_FIELDS = ("num_frames", "frame_size", "crop", "frame_times", "audio_channel")


def require_alike(datasets: Sequence[Dataset], num_frames: int | None = None) -> None:
    """DatasetError where two were prepared so that their inputs differ; `num_frames` of each clip are used, None is all.

    Log-mels have one form in every dataset of a schema version, which opening a dataset checks.
    """
    first, *others = datasets
    for other in others:
        one, two = first.summary["config"], other.summary["config"]
        different = [
            f"{name} is {one.get(name)!r} in {first.paths.root} and {two.get(name)!r} in {other.paths.root}"
            for name in SEEN_FIELDS
            if one.get(name) != two.get(name) and not (name == "num_frames" and num_frames is not None)
        ]
        if different:
            raise DatasetError(
                f"These datasets were prepared differently, so that a model would tell them apart by it: {'; '.join(different)}. "
                "Prepare one of them again, or train on one."
            )


def mixed_statistics(datasets: Sequence[Dataset], fractions: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the log-mel of a mixture that takes `fractions`, (datasets,), of each.

    The mean is that of the means; the mean square is that of deviation^2 + mean^2. Of one dataset they are its own.
    """
    if len(datasets) == 1:
        return datasets[0].summary["mel_mean"], datasets[0].summary["mel_std"]
    for dataset in datasets:
        if dataset.summary["mel_mean"] is None:
            raise DatasetError(
                f"{dataset.paths.root} has no log-mel statistics, since no clip of its training splits is usable: leave it "
                "out, or set data.mel_mean and data.mel_std."
            )
    means, stds = (np.array([one.summary[name] for one in datasets]) for name in ("mel_mean", "mel_std"))
    mean = float(fractions @ means)
    return mean, float(np.sqrt(fractions @ (stds**2 + means**2) - mean**2))


def key_prefixes(paths: Sequence[str]) -> list[str]:
    """What tells clips of the same key apart in messages: the dataset's folder before it; nothing for one dataset."""
    if len(paths) == 1:
        return [""]
    names = [PurePosixPath(path).name for path in paths]
    return [f"{name}/" for name in (names if len(set(names)) == len(names) else paths)]
