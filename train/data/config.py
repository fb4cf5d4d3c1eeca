"""Inputs of a model: which frame with which audio segment, and how both are normalised."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from cavsync.pipeline.dataset.choices import Alignment
from cavsync.train.engine.config import require

Pairing = Literal["matched", "shuffled-segments", "other-clip"]
SourceKind = Literal["index", "stream"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips are read, and what an item of them is."""

    path: str | tuple[str, ...] = "data/audioset"
    """Folder that `cavsync prepare` wrote; with source="stream" also a URL, such as https://, s3:// or gs://. Several, as
    [data/audioset, data/vggsound], are trained on together."""
    weights: tuple[float, ...] | None = None
    """Of several datasets the share of an epoch's clips that each gives, such as [0.7, 0.3]; none takes every clip once."""
    source: SourceKind = "index"
    """"index" reads each clip where it lies on a disk; "stream" reads whole shards from front to back, from
    anywhere, and shuffles less."""
    shuffle_clips: int = 512
    """With source="stream": how many clips each process that decodes holds (about .5 MB each) to shuffle. A shard is
    read from its front once for each so many clips, so a small number with large shards means much reading."""
    pairs_per_read: int = 1
    """With source="stream": how many pairs are made of a clip each time it is read, in different batches, and so in how
    many epochs each shard is read once. More take less reading; docs/training.md says what an epoch then is."""
    split: str = "train"
    """"train" or "test" reads all splits that are for training or for testing, a name that one split; dataset.json
    lists them."""
    max_gap_s: float | None = None
    """Clips that lack more seconds of audio, or more seconds of frames, are not trained on; 0 takes only those that
    lack nothing. None takes every prepared clip, so that a run has as many as dataset.json counts unless its user
    chose a limit. Validation and evaluation always use all clips, so that scores of different limits compare."""
    keep: str | None = None
    """An SQL condition over the columns of the index, as of `prepare --keep`; other clips are not trained on, as with
    `max_gap_s`."""
    scores: str | tuple[str, ...] | None = None
    """File of `cavsync data score`, whose columns `keep` may use too; of several datasets one file each, in their order."""
    alignment: Alignment | None = None
    """Which mel rows belong to a frame: by its presentation time ("time"), or by its number as in published weights
    ("upstream"). None is as the initial weights of a classifier were trained, else time."""
    num_frames: int | None = None
    """How many frames of a clip are used, spread over it; None is all that were prepared."""
    mel_mean: float | None = None
    """Subtracted from the log-mel; None takes the mean of the dataset, from dataset.json."""
    mel_std: float | None = None
    """Divides the log-mel; None takes the deviation of the dataset."""
    pad_value: float | None = None
    """Log-mel of rows past a clip's end; None is the mean, that is 0 after normalisation."""
    pairing: Pairing = "matched"
    """Controls that train on wrong pairs, while validation and evaluation use the right ones. "shuffled-segments" gives a
    frame the audio segment of another frame of its clip, the same one each time; "other-clip" gives each clip the audio
    of another fixed clip, at a random frame."""
    image_augmentation: bool = False
    """Random resized crop (area 8-100 %, ratio .9-1.1) and horizontal flip."""
    audio_noise: bool = False
    """Uniform noise of random strength up to .1 on the normalised window, then a random roll in time."""
    num_workers: int = 0
    """Processes that decode; 0 decodes in the training process. The items do not depend on it."""
    check_crc: bool = False
    """Compare each clip's checksum at every read: slow, to check a disk that may be faulty."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The datasets."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def one_path(self) -> str:
        """The dataset where there is one, as in every evaluation."""
        (path,) = self.paths
        return path

    @property
    def named(self) -> str:
        """The datasets and the split, for messages."""
        return f"{', '.join(self.paths)}, split {self.split!r}"

    def on(self, path: str) -> "DataConfig":
        """The same inputs, of another dataset alone."""
        scores = self.scores if isinstance(self.scores, str) else None
        return replace(self, path=path, weights=None, scores=scores)

    def scores_of(self, dataset: int) -> str | None:
        """The file of scores of the dataset of this number."""
        return self.scores if self.scores is None or isinstance(self.scores, str) else self.scores[dataset]

    @property
    def frame_alignment(self) -> Alignment:
        """`alignment`, where it is chosen, else by time."""
        return self.alignment or "time"

    def __post_init__(self) -> None:
        require(
            self.num_workers >= 0, f"num_workers={self.num_workers} is negative; 0 decodes in this process."
        )
        require(
            self.num_frames is None or self.num_frames >= 1,
            f"num_frames={self.num_frames} must be at least 1.",
        )
        require(
            self.max_gap_s is None or self.max_gap_s >= 0,
            f"max_gap_s={self.max_gap_s} is negative; 0 takes only clips that lack nothing, none takes all.",
        )
        require(
            self.scores is None or self.keep is not None,
            f'scores={self.scores} is used by keep, and there is none: set data.keep, such as "correspondence > 0.9".',
        )
        require(self.shuffle_clips >= 1, f"shuffle_clips={self.shuffle_clips} must be at least 1.")
        require(self.pairs_per_read >= 1, f"pairs_per_read={self.pairs_per_read} must be at least 1.")
        require(
            self.pairs_per_read == 1 or self.source == "stream",
            f"pairs_per_read={self.pairs_per_read} is for source=stream: with source=index each pair is read where it lies.",
        )
        self._check_datasets()
        if self.source == "stream":
            require(
                self.pairing != "other-clip" and not self.check_crc,
                f"source='stream' with pairing={self.pairing!r} and check_crc={self.check_crc} contradict: a stream "
                "reaches no other clip and no checksum. Use source=index, or another pairing and check_crc=false.",
            )
        require(
            (self.mel_mean is None) == (self.mel_std is None),
            f"mel_mean={self.mel_mean} and mel_std={self.mel_std} contradict: give both, or neither to take "
            "those of the dataset.",
        )
        require(self.mel_std is None or self.mel_std > 0, f"mel_std={self.mel_std} must be positive.")

    def _check_datasets(self) -> None:
        paths = self.paths
        require(bool(paths), "path=[] names no dataset.")
        for path in paths:
            require(
                self.source == "stream" or "://" not in path,
                f"path={path} is a URL, and source='index' reads each clip where it lies on a disk: set source=stream, "
                "or copy the dataset here.",
            )
            require(
                paths.count(path) == 1,
                f"path names {path} twice: name it once, and give it a larger share with weights.",
            )
        if self.weights is not None:
            require(
                len(self.weights) == len(paths),
                f"weights={list(self.weights)} are {len(self.weights)} numbers, and path names {len(paths)} of {', '.join(paths)}: "
                "give one for each dataset, in their order.",
            )
            require(
                all(0 < weight < math.inf for weight in self.weights),
                f"weights={list(self.weights)} must be positive numbers; leave a dataset out of path instead.",
            )
        num_files = 1 if isinstance(self.scores, str) else len(self.scores or paths)
        require(
            num_files == len(paths),
            f"scores={self.scores} names {num_files} and path {len(paths)}: give one file for each dataset, in their order.",
        )
