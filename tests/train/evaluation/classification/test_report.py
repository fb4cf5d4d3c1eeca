"""Proves beside which published figures a classifier's score stands: by its head, and by the clips that were scored."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cavsync.train.evaluation.classification.protocol import ClassificationScores, is_official_list
from cavsync.train.evaluation.classification.report import published_section
from cavsync.train.reporting.coverage import Coverage, Unusable
from cavsync.train.reporting.page import Table


def scores(head: str, *, is_frozen: bool, is_official: bool = True) -> ClassificationScores:
    """What the section reads of a classifier's scores."""
    read: dict[str, Any] = {
        "figures": SimpleNamespace(mean_average_precision=0.4, top1=0.5),
        "model": SimpleNamespace(classifier=SimpleNamespace(modality="both", head=head)),
        "answers": "single-label",
        "is_official_list": is_official,
        "is_frozen": is_frozen,
        "coverage": Coverage(15_446),
    }
    return cast(ClassificationScores, SimpleNamespace(**read))


def own_rows(tables: list[Table]) -> dict[str, list[list[str]]]:
    return {
        table.header[0]: [list(row) for row in table.rows if row[0].startswith("this run")]
        for table in tables
    }


@pytest.mark.parametrize(
    ("head", "is_frozen", "title"),
    [
        ("attention", True, "frozen under an attention probe"),
        ("linear", True, "frozen under a linear head: nothing is published"),
        ("mlp", True, "frozen under a mlp head: nothing is published"),
        ("attention", False, "fine-tuned"),
        ("mlp", False, "fine-tuned"),
    ],
)
def test_a_score_stands_beside_figures_of_the_same_kind_of_head(
    head: str, is_frozen: bool, title: str
) -> None:
    tables = list(published_section(scores(head, is_frozen=is_frozen)).tables)
    shown = {name: rows for name, rows in own_rows(tables).items() if rows}
    assert shown == {title: [[f"this run, {head} head", "", "", "50.0", "computed here"]]}
    assert {"fine-tuned", "frozen under an attention probe"} <= {table.header[0] for table in tables}


@pytest.mark.parametrize(
    ("dataset", "num_listed", "num_scored", "official"),
    [
        ("vggsound", 15_446, 15_446, True),
        ("vggsound", 15_446, 13_000, True),
        ("vggsound", 15_446, 8_000, False),  # listed in full, and half of it scored
        ("vggsound", 1_545, 1_545, False),
        ("audioset", 20_371, 17_249, True),  # as many as CAV-MAE's authors scored
        ("mine", 15_446, 15_446, False),
    ],
)
def test_a_list_is_the_published_one_by_the_clips_that_were_scored(
    dataset: str, num_listed: int, num_scored: int, official: bool
) -> None:
    lost = tuple(Unusable(str(number), "missing", "") for number in range(num_listed - num_scored))
    assert is_official_list(dataset, Coverage(num_listed, lost)) is official
