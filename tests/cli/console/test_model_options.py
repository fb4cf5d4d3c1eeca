"""Proves which commands take a lower precision by themselves: those that compare embeddings, which hardly change in it."""

from dataclasses import fields

import pytest

from cavsync.cli.console.heatmap_options import HeatmapModelOptions
from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.evaluate.classification import ClassifierModelOptions
from cavsync.cli.inference.search import SearchModelOptions


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (ModelOptions, "auto"),
        (SearchModelOptions, "auto"),
        (HeatmapModelOptions, "float32"),
        (ClassifierModelOptions, "float32"),
    ],
)
def test_heatmaps_and_classes_are_float32_unless_the_user_decides(
    options: type[ModelOptions], precision: str
) -> None:
    assert options().precision == precision
    assert [one.name for one in fields(options)] == [one.name for one in fields(ModelOptions)]
