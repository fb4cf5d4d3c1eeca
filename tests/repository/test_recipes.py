"""Proves that docs/recipes.md holds the presets' own values, every field that decides a result, and a word on each difference."""

import re
from dataclasses import replace
from typing import Any

import pytest
from support.documents.pages import ROOT

from cavsync.train.engine.config import LENGTH_FIELDS, is_free_on_resume
from cavsync.train.engine.overrides import apply_overrides, field_names
from cavsync.train.finetune.presets import FINETUNE_PRESETS
from cavsync.train.pretrain.presets import PRESETS

MAKERS: dict[str, Any] = {**PRESETS, **FINETUNE_PRESETS}
PAGE = (ROOT / "docs" / "recipes.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))
# Fields that the page leaves out, as it says.
LEFT_OUT = ("preset", "seed", "data.source", "data.shuffle_clips", "data.pairs_per_read", "data.pairing")
TGDP_FIELDS = ("contrast_view.", "teacher.")


def rows(title: str) -> list[list[str]]:
    """The cells of each row of a section's table, below its head."""
    lines = [line for line in SECTIONS[title].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def tables() -> dict[str, dict[str, str]]:
    """Preset -> field -> the value that the page gives."""
    found: dict[str, dict[str, str]] = {}
    for title in SECTIONS:
        presets = title.split(", ")
        for cells in rows(title):
            names = re.findall(r"`([^`]+)`", cells[0])
            for preset, cell in zip(presets, cells[1:], strict=False):
                values = re.split("; " if ";" in cell else ", ", cell) if len(names) > 1 else [cell]
                if names:
                    found.setdefault(preset, {}).update(zip(names, values, strict=True))
    return found


TABLES = tables()


@pytest.mark.parametrize("preset", TABLES)
def test_the_page_has_the_values_of_the_preset_and_every_field_that_decides_a_result(preset: str) -> None:
    config, stated = MAKERS[preset](), TABLES[preset]
    assert apply_overrides(config, [f"{name}={value}" for name, value in stated.items()]) == config
    decisive = {
        name
        for name in field_names(config)
        if name not in LEFT_OUT
        and not name.startswith("ema.")
        and (preset == "tgdp-base" or not name.startswith(TGDP_FIELDS))
        and (not is_free_on_resume(name) or name in LENGTH_FIELDS)
    }
    assert set(stated) == decisive


def test_a_value_of_another_preset_is_noticed() -> None:
    config = MAKERS["sync-base"]()
    values = TABLES["sync-base"] | {"optimizer.lr": "1e-4"}
    assert apply_overrides(config, [f"{name}={value}" for name, value in values.items()]) != config


def test_every_preset_has_a_table_or_is_said_to_be_of_this_repository() -> None:
    titles = {name for title in SECTIONS for name in title.split(", ")}
    augmented = {name for name in MAKERS if name.endswith("-augmented")}
    assert set(MAKERS) == titles | augmented
    for name in augmented:
        plain = MAKERS[name.removesuffix("-augmented")]()
        assert not plain.data.image_augmentation
        assert MAKERS[name]() == replace(
            plain, preset=name, data=replace(plain.data, image_augmentation=True)
        )
        assert f"`{name}`" in PAGE
    assert {name for name in titles if name not in TABLES} == {
        "tiny",
        "tgdp-tiny",
        "finetune-tiny",
        "probe-tiny",
    }


def test_each_difference_says_what_it_can_do() -> None:
    for title in SECTIONS:
        for cells in rows(title):
            *_, authors, effect = cells
            assert authors.startswith("same") or effect, f"{title}: {cells[0]}"
