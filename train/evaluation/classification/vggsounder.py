"""VGGSounder: VGGSound's test clips with every class that is audible or visible in them, and its figures.

The figures are those of the package `vggsounder`: the k likeliest classes are the answer, whatever their probability;
a subset keeps the labels of one kind and the clips that then have one. The package scores a subset with a model of
its modalities: "a" and "a only" with one of audio, "v" and "v only" with one of images. A listed clip without an answer
counts as wrong in the package; here figures are of the clips that are there, and beside them as the package counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from cavsync.model.classifier_config import Modality
from cavsync.pipeline.dataset.schema import clip_key
from cavsync.pipeline.lists.clip_list import CLIP_NAME
from cavsync.pipeline.lists.tables import ListError, rows_by_title
from cavsync.train.data.labelled.labels import Labels
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.classification.metrics import classification

TITLES = ("video_id", "label", "modality")
# Subset -> the kinds of labels it keeps: audible, visible, or both.
SUBSETS = {
    "av": ("AV",),
    "a": ("A", "AV"),
    "v": ("V", "AV"),
    "a only": ("A",),
    "v only": ("V",),
    "all": ("A", "V", "AV"),
}
SCORED_WITH: dict[Modality, tuple[str, ...]] = {
    "both": ("av",),
    "audio": ("a", "a only"),
    "image": ("v", "v only"),
}
ANSWERS = (1, 3, 5, 10)


@dataclass(frozen=True)
class VggSounder:
    """The list: clip key -> (label, kind) of each of its rows."""

    path: Path
    labels: dict[str, list[tuple[str, str]]]

    @classmethod
    def read(cls, path: Path) -> "VggSounder":
        """Raises ListError for a file that is no such list."""
        labels: dict[str, list[tuple[str, str]]] = {}
        kinds = SUBSETS["all"]
        for line, (video_id, label, kind) in rows_by_title(path, TITLES):
            name = CLIP_NAME.fullmatch(str(video_id))
            if name is None or kind not in kinds:
                raise ListError(
                    f"{path}, line {line}: clip {video_id!r} and modality {kind!r}; VGGSounder names clips like "
                    f"ID_000030, and the modality is one of {', '.join(kinds)}."
                )
            key = clip_key(name["id"], float(name["start_s"]))
            labels.setdefault(key, []).append((str(label), str(kind)))
        if not labels:
            raise ListError(f"{path} lists no clip.")
        return cls(path, labels)


@dataclass(frozen=True)
class AnswerFigures:
    """Figures of the k likeliest classes, by k."""

    hits: dict[int, float]
    """Fraction of clips of which one answer or more is right."""
    f1: dict[int, float]
    """Over all pairs of a clip and a class (micro)."""
    f1_macro: dict[int, float]
    """Mean over the classes; a class that is neither listed nor answered counts as 0."""


@dataclass(frozen=True)
class SubsetFigures:
    """Figures of one kind of labels, in [0, 1]."""

    name: str
    num_clips: int
    num_labels: int
    as_published: bool
    """The model has the modalities with which the package scores this subset."""
    answers: AnswerFigures
    num_listed: int
    """Clips of the list that have such a label, whether they are there or not."""
    absent_wrong: AnswerFigures
    """With listed clips that are not there as wrong ones, as the package counts."""
    chance: float
    """The probability that one answer drawn at random is right."""
    mean_average_precision: float
    auc: float


@dataclass(frozen=True)
class VggSounderScores:
    path: Path
    num_rows: int  # of the list
    num_listed: int
    missing: tuple[str, ...]  # listed clips that the dataset does not have
    subsets: tuple[SubsetFigures, ...]

    @property
    def num_clips(self) -> int:
        return self.num_listed - len(self.missing)


def score_vggsounder(
    listed: VggSounder, keys: Sequence[str], probabilities: np.ndarray, labels: Labels, modality: Modality
) -> VggSounderScores:
    """Scores the clips of the list among `keys`, whose (N, C) probabilities are given."""
    index_of = {key: index for index, key in enumerate(keys)}
    missing = tuple(key for key in listed.labels if key not in index_of)
    found = [key for key in listed.labels if key in index_of]
    if not found:
        raise EvaluationError(
            f"none of the {len(listed.labels)} clips of {listed.path} is among the {len(keys)} scored ones: "
            "VGGSounder re-labels the test split of VGGSound."
        )
    own = probabilities[[index_of[key] for key in found]]
    subsets = []
    for name, kinds in SUBSETS.items():
        truth, absent = (
            _truth([listed.labels[key] for key in some], kinds, labels, listed.path)
            for some in (found, missing)
        )
        has_one, absent = truth.any(axis=1), absent[absent.any(axis=1)]
        if has_one.any():
            published = name in SCORED_WITH[modality]
            subsets.append(score_subset(name, own[has_one], truth[has_one], absent, labels.names, published))
    num_rows = sum(map(len, listed.labels.values()))
    return VggSounderScores(listed.path, num_rows, len(listed.labels), missing, tuple(subsets))


def score_subset(
    name: str,
    probabilities: np.ndarray,
    truth: np.ndarray,
    absent: np.ndarray,
    names: Sequence[str],
    as_published: bool,
) -> SubsetFigures:
    """Figures of (N, C) probabilities against (N, C) booleans with a true one in each row; `absent` are (A, C) of other clips."""
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    counts = [k for k in ANSWERS if k <= truth.shape[1]]
    answers = {k: _answered(ranked[:, :k], truth.shape) for k in counts}
    ranking = classification(probabilities, truth, names)
    return SubsetFigures(
        name=name,
        num_clips=len(truth),
        num_labels=int(truth.sum()),
        as_published=as_published,
        answers=_answer_figures(truth, answers),
        num_listed=len(truth) + len(absent),
        absent_wrong=_answer_figures(
            np.concatenate([truth, absent]),
            {k: np.concatenate([given, np.zeros_like(absent)]) for k, given in answers.items()},
        ),
        chance=float(truth.mean()),
        mean_average_precision=ranking.mean_average_precision,
        auc=ranking.auc,
    )


def _answer_figures(truth: np.ndarray, answers: dict[int, np.ndarray]) -> AnswerFigures:
    """Of (N, C) booleans: the truth, and what was answered by the number of answers."""
    return AnswerFigures(
        hits={k: float((given & truth).any(axis=1).mean()) for k, given in answers.items()},
        f1={k: _f1(truth, given, "micro") for k, given in answers.items()},
        f1_macro={k: _f1(truth, given, "macro") for k, given in answers.items()},
    )


def _answered(which: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    given = np.zeros(shape, bool)
    np.put_along_axis(given, which, True, axis=1)
    return given


def _f1(truth: np.ndarray, given: np.ndarray, average: str) -> float:
    return float(f1_score(truth, given, average=average, zero_division=0))


def _truth(
    rows: Sequence[Sequence[tuple[str, str]]], kinds: Sequence[str], labels: Labels, path: Path
) -> np.ndarray:
    truth = np.zeros((len(rows), len(labels)), bool)
    for clip, of_clip in enumerate(rows):
        for label, kind in of_clip:
            if kind in kinds:
                truth[clip, _column(label, labels, path)] = True
    return truth


def _column(label: str, labels: Labels, path: Path) -> int:
    column: Any = labels.class_index(label, label)
    if column is None:
        raise EvaluationError(
            f"{path} has the class {label!r}, which is none of the model's {len(labels)}: score a model of VGGSound's "
            "309 classes."
        )
    return int(column)
