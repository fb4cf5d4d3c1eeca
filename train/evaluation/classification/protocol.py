"""`cavsync eval classification`: the probabilities of every clip of a split, from all of its frames, and their figures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cavsync.model.checkpoints.checkpoint import open_checkpoint
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import Modality
from cavsync.model.errors import CheckpointError
from cavsync.train.choices import InferencePrecision, LabelTask
from cavsync.train.data.inputs import find_weights, split_fields
from cavsync.train.data.labelled.clips import LabelledClips
from cavsync.train.data.labelled.labels import Labels, task_of
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.classification.estimates import (
    ClassificationEstimates,
    classification_estimates,
)
from cavsync.train.evaluation.classification.labels import model_labels, truth_of
from cavsync.train.evaluation.classification.metrics import Chance, Classification, chance, classification
from cavsync.train.evaluation.classification.predict import class_probabilities, clip_vectors, evaluating
from cavsync.train.evaluation.classification.vggsounder import VggSounder, VggSounderScores, score_vggsounder
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage, split_coverage

# Clips of the lists that published figures are of: AudioSet's evaluation set and VGGSound's test set.
OFFICIAL_CLIPS = {"audioset": 20_371, "vggsound": 15_446}
# Videos disappear: with this fraction of the list scored, the figures count as those of the list. CAV-MAE's authors scored
# 17,249 clips of AudioSet's, 85 %.
MIN_LIST_FRACTION = 0.8
OnClip = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ClassificationTask:
    """One classifier on one split."""

    split: SplitTask
    label_list: Path | None = None
    """The order of its classes, where the checkpoint does not say."""
    task: LabelTask | None = None
    """None: as the checkpoint was trained, else as the clips' labels call for."""
    vggsounder: Path | None = None
    max_missing: float = 0.5
    """Fraction of the listed clips that may be left out; a larger one is an error."""
    seed: int = 0


@dataclass(frozen=True)
class ClassificationScores:
    task: ClassificationTask
    model: CavMaeClassifier
    answers: LabelTask
    """How logits became probabilities: softmax (single-label) or a sigmoid a class."""
    labels: Labels
    clips: LabelledClips
    probabilities: np.ndarray  # (N, C)
    truth: np.ndarray  # (N, C) booleans
    figures: Classification
    estimates: ClassificationEstimates
    chance: Chance
    coverage: Coverage
    vggsounder: VggSounderScores | None
    dataset: str
    """Name of the dataset."""
    training: Mapping[str, Any]
    """How the classifier was trained; empty where the file does not say."""

    @property
    def is_official_list(self) -> bool:
        return is_official_list(self.dataset, self.coverage)

    @property
    def is_frozen(self) -> bool:
        """A head was trained on frozen encoders."""
        return bool(self.training.get("config", {}).get("frozen"))


def is_official_list(dataset: str, coverage: Coverage) -> bool:
    """Whether as many clips as the published list has are listed, and most of them were scored."""
    official = OFFICIAL_CLIPS.get(dataset)
    if official is None or official != coverage.num_listed:
        return False
    return coverage.num_scored >= MIN_LIST_FRACTION * official


def open_classifier(
    weights: Path,
    overrides: Mapping[str, Any],
    device: str = "cpu",
    precision: InferencePrecision = "float32",
) -> LoadedCheckpoint:
    """`overrides` are fields of `ModelConfig` and `ClassifierConfig`, where the file does not hold them.

    Raises CheckpointError or EvaluationError for what is no classifier, or none for the modality in `overrides`.
    """
    modality = overrides.get("modality")
    try:
        checkpoint = LoadedCheckpoint.load(weights, device, precision, **overrides)
    except CheckpointError as error:
        trained = _trained_modality(weights, overrides)
        if trained is None or modality in (None, trained):
            raise
        raise EvaluationError(
            f"{weights} cannot be scored with modality={modality}: its head was made for {trained} and takes nothing "
            f"else. Leave --modality out, or train one with `cavsync train probe --modality {modality}`."
        ) from error
    if not isinstance(checkpoint.model, CavMaeClassifier):
        raise EvaluationError(
            f"{checkpoint.weights} is a pretrained model without a head, so it names no class: give it one with "
            "`cavsync train probe` or `cavsync train finetune`, and score that run."
        )
    return checkpoint


def modality_of(checkpoint: LoadedCheckpoint) -> Modality:
    """The inputs of a classifier from `open_classifier`."""
    assert isinstance(checkpoint.model, CavMaeClassifier), "open_classifier loads it"
    return checkpoint.model.classifier.modality


def _trained_modality(weights: Path, overrides: Mapping[str, Any]) -> Modality | None:
    """The modality of the classifier; None where the file does not state one, or is no classifier."""
    model_fields, _ = split_fields(overrides)
    given = {name: value for name, value in model_fields.items() if name not in ("modality", "features")}
    try:
        classifier = open_checkpoint(find_weights(weights), **given).requested.classifier
    except CheckpointError:
        return None
    return None if classifier is None else classifier.modality


def score_classification(task: ClassificationTask, on_clip: OnClip) -> ClassificationScores:
    """Scores every usable clip of the split; raises CavsyncError or CheckpointError on what the user can fix."""
    split, checkpoint = task.split, task.split.checkpoint
    model = checkpoint.model
    assert isinstance(model, CavMaeClassifier), "open_classifier loads it"
    labels = model_labels(checkpoint, task.label_list)
    coverage = split_coverage(split.dataset, split.data.split)
    coverage.require(task.max_missing)
    listed = None if task.vggsounder is None else VggSounder.read(task.vggsounder)
    modality = model.classifier.modality
    clips = LabelledClips(split.data, model.config, modality, [split.dataset])
    truth = truth_of(clips, labels)
    answers = task.task or checkpoint.training.get("task") or task_of(clips.targets)
    probabilities = _probabilities(model, clips, answers, checkpoint, on_clip)
    figures, by_chance = classification(probabilities, truth, labels.names), chance(truth, labels.names)
    return ClassificationScores(
        task=task,
        model=model,
        answers=answers,
        labels=labels,
        clips=clips,
        probabilities=probabilities,
        truth=truth,
        figures=figures,
        estimates=classification_estimates(figures, by_chance, probabilities, truth),
        chance=by_chance,
        coverage=coverage,
        dataset=str(split.dataset.summary.get("name", "")),
        training=checkpoint.training,
        vggsounder=None
        if listed is None
        else score_vggsounder(listed, clips.store.keys, probabilities, labels, modality),
    )


def _probabilities(
    model: CavMaeClassifier,
    clips: LabelledClips,
    answers: LabelTask,
    checkpoint: LoadedCheckpoint,
    on_clip: OnClip,
) -> np.ndarray:
    with evaluating(model):
        vectors = clip_vectors(model, clips, checkpoint.device, checkpoint.precision)
        return class_probabilities(model, _counted(vectors, len(clips), on_clip), answers)


def _counted(vectors: Iterable[Tensor], total: int, on_clip: OnClip) -> Iterator[Tensor]:
    for number, of_clip in enumerate(vectors):
        yield of_clip
        on_clip(number + 1, total)
