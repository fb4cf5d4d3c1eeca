"""Proves that every published figure has a source, and the figures that were once quoted for another thing."""

from collections.abc import Iterator

import pytest

from cavsync.train.evaluation import published
from cavsync.train.evaluation.published import ADE20K_SOUND, FINETUNED, Published


def rows() -> Iterator[Published]:
    for value in vars(published).values():
        for group in value.values() if isinstance(value, dict) else (value,):
            yield from (
                (one for one in group if isinstance(one, Published)) if isinstance(group, tuple) else ()
            )


def test_every_row_has_a_source_and_a_figure() -> None:
    found = list(rows())
    assert len(found) > 15
    for one in found:
        assert one.source
        assert any(figure is not None for figure in one.figures)


@pytest.mark.parametrize(
    ("modality", "model", "figures"),
    [
        ("both", "CAV-MAE Scale++", (42.2, 51.05, 65.8)),  # 65.9 is of weights pretrained on VGGSound too
        ("both", "CAV-MAE, pretrained on VGGSound too", (None, None, 65.9)),
        ("audio", "CAV-MAE", (37.7, 46.6, 59.5)),  # the released weights reach 59.8
        ("audio", "CAV-MAE, released weights", (None, None, 59.8)),
        ("image", "CAV-MAE", (19.8, 26.2, 47.0)),
    ],
)
def test_figures_of_cavmae_are_of_the_weights_that_they_name(
    modality: str, model: str, figures: tuple[float | None, ...]
) -> None:
    assert (model, figures) in [(one.model, one.figures) for one in FINETUNED[modality]]


def test_a_figure_that_listings_contradict_each_other_in_is_left_out() -> None:
    assert {one.model: one.figures for one in ADE20K_SOUND}["CAV-MAE"] == (26.0, None)
