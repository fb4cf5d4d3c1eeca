"""The classes of a dataset, and the targets of its clips."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.train.choices import LabelTask


@dataclass(frozen=True)
class Labels:
    """The classes, in the order of a model's outputs."""

    ids: tuple[str, ...]  # as the clips carry them
    names: tuple[str, ...]  # as people read them

    @classmethod
    def of(cls, dataset: Dataset) -> "Labels":
        """DatasetError where the dataset has no classes, since its list had no labels."""
        ids, names = dataset.summary.get("labels") or [], dataset.summary.get("label_names")
        if not ids:
            raise DatasetError(
                f"{dataset.paths.root} has no labels, so there is nothing to classify: prepare it from a list that has them "
                "(AudioSet's, VGGSound's, or your own with `cavsync prepare manifest` and a column of labels), or a "
                "folder of each label with `cavsync prepare folder ... --labels-from folders`."
            )
        return cls(tuple(ids), tuple(names or ids))

    @classmethod
    def shared(cls, datasets: Sequence[Dataset]) -> "Labels":
        """Those of the first dataset, which all must have, in any order.

        A class that one dataset does not know would count as absent from each of its clips, also where it is present.
        Raises DatasetError where a dataset has other classes.
        """
        first, *others = map(cls.of, datasets)
        for labels, dataset in zip(others, datasets[1:], strict=True):
            for more, less, owner in ((first, labels, datasets[0]), (labels, first, dataset)):
                only = [label for label in more.ids if label not in set(less.ids)]
                if only:
                    raise DatasetError(
                        f"{datasets[0].paths.root} has {len(first)} classes and {dataset.paths.root} {len(labels)}, not the "
                        f"same: {', '.join(only[:5])}{' and others' if len(only) > 5 else ''} only in {owner.paths.root}. A "
                        "classifier would learn that they are absent from the other's clips. Prepare both from lists of the "
                        "same classes, or train on one."
                    )
        return first

    def __len__(self) -> int:
        return len(self.ids)

    def class_index(self, label_id: str, name: str) -> int | None:
        """The index of a class of another list among these: of the same id, else of the same name, else None.

        CAV-MAE's list for VGGSound writes commas in names as underscores.
        """
        by_id, by_name = self._indices
        return by_id.get(label_id, by_name.get(plain_name(name)))

    def targets(self, labels: Sequence[Sequence[str]], where: str) -> torch.Tensor:
        """float32 (clips, classes), 1 where the clip has the class; `where` names the clips in messages."""
        numbers = {name: number for number, name in enumerate(self.ids)}
        unknown = {name for of_clip in labels for name in of_clip} - numbers.keys()
        if unknown:
            raise DatasetError(
                f"{where} has labels that are none of its {len(self)} classes: {', '.join(sorted(unknown)[:5])}. "
                "Prepare it again: its index and its dataset.json do not belong together."
            )
        bare = sum(not of_clip for of_clip in labels)
        if bare:
            raise DatasetError(
                f"{bare} of {len(labels)} clips of {where} have no label: prepare the dataset from a list that "
                "labels every clip."
            )
        targets = torch.zeros(len(labels), len(self))
        for clip, of_clip in enumerate(labels):
            targets[clip, [numbers[name] for name in of_clip]] = 1
        return targets

    @cached_property
    def _indices(self) -> tuple[dict[str, int], dict[str, int]]:
        return (
            {label_id: number for number, label_id in enumerate(self.ids)},
            {plain_name(name): number for number, name in enumerate(self.names)},
        )


def plain_name(name: str) -> str:
    """One spelling for all spellings of a class."""
    return name.replace(",", "_").strip().casefold()


def task_of(targets: torch.Tensor) -> LabelTask:
    """single-label where no clip of `targets` (clips, classes) has several, as in VGGSound; else multi-label, as in AudioSet."""
    return "multi-label" if bool((targets.sum(dim=1) > 1).any()) else "single-label"


def require_single(targets: torch.Tensor, where: str) -> None:
    """DatasetError where some clip of `targets` (clips, classes) has several labels."""
    counts = Counter(targets.sum(dim=1).int().tolist())
    several = sum(clips for labels, clips in counts.items() if labels > 1)
    if several:
        raise DatasetError(
            f"task=single-label, and {several} of {len(targets)} clips of {where} have several labels "
            f"(up to {max(counts)}): set task=multi-label."
        )
