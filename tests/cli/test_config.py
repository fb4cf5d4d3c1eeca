"""Proves that `cavsync config show` describes every field of every preset."""

import pytest
from support.command_line import output_text, run

from cavsync.cli.config import resolved
from cavsync.cli.console.field_descriptions import described_fields
from cavsync.train.finetune.presets import FINETUNE_PRESETS
from cavsync.train.pretrain.presets import PRESETS


@pytest.mark.parametrize("preset", [*PRESETS, *FINETUNE_PRESETS])
def test_no_field_of_a_preset_lacks_a_description(preset: str) -> None:
    descriptions = described_fields(resolved(preset, []))
    assert {"optimizer", "optimizer.decay", "data.split", "seed"} <= descriptions.keys()
    assert [name for name, text in descriptions.items() if not text.endswith(".")] == []


def test_a_field_is_shown_with_its_value_and_its_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    output = output_text(run("config", "show", "--preset", "tiny", "--set", "seed=3"))
    assert (
        'decay = "matrices" Which parameters decay: "all", or "matrices", which leaves out the vectors'
        in output
    )
    assert "seed = 3 Decides initial weights" in output
    assert "clip_grad_norm = none Gradients above this norm" in output


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("probe-tyni", "; did you mean 'probe-tiny'?"),
        ("mine", f"; there are: {', '.join([*PRESETS, *FINETUNE_PRESETS])}."),
    ],
)
def test_an_unknown_preset_names_the_nearest_or_all_that_are_listed(
    name: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run("config", "show", "--preset", name)
    assert result.exit_code == 2
    assert f"There is no preset '{name}'{way_out}" in output_text(result)
