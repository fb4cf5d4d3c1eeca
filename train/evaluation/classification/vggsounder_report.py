"""VGGSounder's part of the report on classification: a row for each kind of labels."""

import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from cavsync.pipeline.storage.path import sha256
from cavsync.train.evaluation.classification.vggsounder import VggSounderScores
from cavsync.train.reporting.page import Section, Table


def vggsounder_sections(scores: VggSounderScores | None) -> Sequence[Section]:
    if scores is None:
        return []
    counts = list(scores.subsets[0].answers.hits)
    header = ["labels", "clips", "labels a clip", "chance", *(f"hit@{k}" for k in counts)]
    header += [*(f"F1@{k}" for k in counts), "mAP", ""]
    text = (
        f"{scores.num_clips} of {scores.num_listed} clips of VGGSounder, in %. Its labels are audible (A), visible (V) or both "
        "(AV): a = A + AV, v = V + AV, av = AV alone. The k likeliest classes are the answer: hit@k is the fraction of clips of "
        "which one is right, F1@k is over all pairs of a clip and a class. Chance is that of one answer. VGGSounder scores "
        "av with a model of both modalities, a and a only with one of audio, v and v only with one of images. "
        f"The labels are those of {label_version(scores)}."
    )
    tables = [Table(header, _subset_rows(scores), note=True)]
    if scores.missing:
        text += (
            " VGGSounder counts listed clips without an answer as wrong; the second table counts so, for comparison with its "
            "figures."
        )
        absent = ["labels", "clips listed", *(f"hit@{k}" for k in counts), *(f"F1@{k}" for k in counts), ""]
        tables.append(Table(absent, _absent_rows(scores), note=True))
    return [Section("VGGSounder: several labels a clip", text, tables=tables)]


def label_version(scores: VggSounderScores) -> str:
    """What identifies the list: the version of the installed package that it lies in, if any, its size and its hash."""
    package = package_version(scores.path)
    where = "" if package is None else f"vggsounder {package}, "
    clips = f"{scores.num_rows:,} rows, {scores.num_listed:,} clips"
    return f"{where}{scores.path.name} ({clips}, sha256 {sha256(scores.path)[:12]})"


def package_version(path: Path) -> str | None:
    """The version of the package `vggsounder` where `path` is one of its files; None elsewhere."""
    try:
        package = distribution("vggsounder")
    except PackageNotFoundError:
        return None
    files = {Path(str(file.locate())).resolve() for file in package.files or ()}
    return package.version if path.resolve() in files else None


def vggsounder_record(scores: VggSounderScores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "list": scores.path,
        "list_sha256": sha256(scores.path),
        "list_num_rows": scores.num_rows,
        "list_package_version": package_version(scores.path),
        "num_listed": scores.num_listed,
        "num_clips": scores.num_clips,
        "missing": scores.missing,
        "subsets": {one.name: one for one in scores.subsets},
    }


def _subset_rows(scores: VggSounderScores) -> list[list[str]]:
    return [
        [
            one.name,
            str(one.num_clips),
            f"{one.num_labels / one.num_clips:.2f}",
            _percent(one.chance),
            *map(_percent, one.answers.hits.values()),
            *map(_percent, one.answers.f1.values()),
            _percent(one.mean_average_precision),
            "as VGGSounder scores it" if one.as_published else "",
        ]
        for one in scores.subsets
    ]


def _absent_rows(scores: VggSounderScores) -> list[list[str]]:
    return [
        [
            one.name,
            str(one.num_listed),
            *map(_percent, one.absent_wrong.hits.values()),
            *map(_percent, one.absent_wrong.f1.values()),
            "as VGGSounder scores it" if one.as_published else "",
        ]
        for one in scores.subsets
    ]


def _percent(fraction: float) -> str:
    return "" if math.isnan(fraction) else f"{100 * fraction:.1f}"
