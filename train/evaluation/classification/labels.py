"""The class of each output of a classifier, and the truth of a dataset's clips in these classes."""

import re
from pathlib import Path

import numpy as np

from cavsync.errors import first_of
from cavsync.model.classifier import CavMaeClassifier
from cavsync.pipeline.lists.listing import read_label_list
from cavsync.train.data.labelled.clips import LabelledClips
from cavsync.train.data.labelled.labels import Labels
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.errors import EvaluationError

NAMED_IN_MESSAGES = 5
# Ids of the label list that CAV-MAE's authors made for VGGSound. Copies of it with 308 and with 310 rows are about,
# which would shift the classes.
VGGSOUND_ID = re.compile(r"vgg_\d+")
VGGSOUND_CLASSES = 309


def model_labels(checkpoint: LoadedCheckpoint, listed: Path | None) -> Labels:
    """The classes in the order of the outputs: from the label list `listed`, or as our training stored them.

    Raises EvaluationError where neither is there, or where the number of outputs is another one.
    """
    assert isinstance(checkpoint.model, CavMaeClassifier)
    weights, num_outputs = checkpoint.weights, checkpoint.model.classifier.num_classes
    labels = stored_labels(checkpoint) if listed is None else listed_labels(listed)
    if labels is None:
        raise EvaluationError(
            f"{weights} has {num_outputs} classes and does not say which: give the label list that it was "
            "trained with, --labels FILE (AudioSet's class_labels_indices.csv, CAV-MAE's class_labels_indices_vgg.csv)."
        )
    if len(labels) != num_outputs:
        source = weights if listed is None else listed
        raise EvaluationError(
            f"{source} has {len(labels)} classes, and {weights} has {num_outputs} outputs: they do not belong together. "
            "Give the list that this checkpoint was trained with."
        )
    return labels


def stored_labels(checkpoint: LoadedCheckpoint) -> Labels | None:
    """The labels that `cavsync train` wrote beside the weights; None for other files."""
    training = checkpoint.training
    if "labels" not in training:
        return None
    return Labels(tuple(training["labels"]), tuple(training["label_names"]))


def listed_labels(path: Path) -> Labels:
    """The labels of a CSV with the columns index, mid and display_name; raises ListError or EvaluationError."""
    ids, names = zip(*read_label_list(path), strict=True)
    if all(VGGSOUND_ID.fullmatch(one) for one in ids) and len(ids) != VGGSOUND_CLASSES:
        raise EvaluationError(
            f"{path} has {len(ids)} classes, and VGGSound's label list has {VGGSOUND_CLASSES}: it is one of the copies "
            "that lack a class or hold one too many. Take class_labels_indices_vgg.csv from the CAV-MAE repository."
        )
    return Labels(ids, names)


def truth_of(clips: LabelledClips, labels: Labels) -> np.ndarray:
    """(clips, classes of `labels`) booleans; EvaluationError where a clip has a class that is none of them."""
    truth = clips.targets.numpy().astype(bool)
    columns = [labels.class_index(*pair) for pair in zip(clips.labels.ids, clips.labels.names, strict=True)]
    unknown = [old for old, new in enumerate(columns) if new is None and truth[:, old].any()]
    if unknown:
        names = first_of([clips.labels.names[column] for column in unknown], NAMED_IN_MESSAGES)
        raise EvaluationError(
            f"{int(truth[:, unknown].any(axis=1).sum())} of {len(truth)} clips of {clips.where} are of classes that the "
            f"model does not have: {names}. Score it on the dataset "
            "that it was trained for, or give its own list with --labels."
        )
    own = np.zeros((len(truth), len(labels)), bool)
    for old, new in enumerate(columns):
        if new is not None:
            own[:, new] |= truth[:, old]
    return own
