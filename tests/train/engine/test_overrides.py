"""Proves `--set`: it changes the field it names, keeps types, and its errors name what is wrong and what was meant."""

from typing import Any, Literal

import pytest

from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.overrides import apply_overrides, parse
from cavsync.train.pretrain.presets import sync_base, tiny


def test_an_override_changes_its_field_and_leaves_the_preset_alone() -> None:
    before = tiny()
    changed = apply_overrides(before, ["optimizer.lr=1e-4", "batch_size=32", "model.num_registers=2"])
    assert (changed.optimizer.lr, changed.batch_size, changed.model.num_registers) == (1e-4, 32, 2)
    assert before == tiny()
    assert changed.schedule == before.schedule


def test_fields_that_check_each_other_change_together() -> None:
    changed = apply_overrides(sync_base(), ["num_steps=10", "num_epochs=none"])
    assert (changed.num_steps, changed.num_epochs) == (10, None)
    both = apply_overrides(tiny(), ["schedule.name=multistep", "schedule.milestones=10,15"])
    assert both.schedule.milestones == (10, 15)


def test_the_last_of_two_overrides_of_a_field_holds() -> None:
    assert apply_overrides(tiny(), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.lrr=3", r"OptimizerConfig has no field 'lrr'; did you mean 'optimizer\.lr'\?"),
        ("lr=3", r"PretrainConfig has no field 'lr'; did you mean 'optimizer\.lr'\?"),
        (
            "optimizer.embed_dim=3",
            r"OptimizerConfig has no field 'embed_dim'; did you mean 'model\.embed_dim'\?",
        ),
        (
            "weight_decays=3",
            r"PretrainConfig has no field 'weight_decays'; did you mean 'optimizer\.weight_decay'\?",
        ),
        (
            "num_frames=3",
            r"has no field 'num_frames'; did you mean 'monitor\.num_frames' or 'data\.num_frames'\?",
        ),
        ("batch-size=3", r"PretrainConfig has no field 'batch-size'; did you mean 'batch_size'\?"),
        ("optimiser.lr=3", r"PretrainConfig has no field 'optimiser\.lr'; did you mean 'optimizer\.lr'\?"),
        ("optimiser=3", r"PretrainConfig has no field 'optimiser'; did you mean 'optimizer'\?"),
        (
            "model.num_register=3",
            r"ModelConfig has no field 'num_register'; did you mean 'model\.num_registers'\?",
        ),
        (
            "schedule.qqq=3",
            r"ScheduleConfig has no field 'qqq'; there are: schedule\.name, schedule\.warmup_fraction",
        ),
        ("qqq=3", "PretrainConfig has no field 'qqq'; there are: preset, optimizer, schedule"),
        ("batch_size=many", r"PretrainConfig\.batch_size='many' is not of type int\."),
        ("batch_size=1.5", r"PretrainConfig\.batch_size='1\.5' is not of type int\."),
        ("compile=maybe", r"PretrainConfig\.compile='maybe' is not of type .*'auto'"),
        (
            "precision=fp8",
            r"PretrainConfig\.precision='fp8' is not of type 'float32' \| 'bfloat16' \| 'float16'\.",
        ),
        ("optimizer.betas=0.9", r"OptimizerConfig\.betas='0\.9' is not of type tuple\[float, float\]\."),
        ("num_steps=x", r"PretrainConfig\.num_steps='x' is not of type int \| None\."),
        ("batch_size", "'batch_size' is no assignment; write field=value"),
        ("optimizer=adam", r"PretrainConfig\.optimizer is a group of fields; set one of them.*lr"),
        ("batch_size.x=3", r"PretrainConfig\.batch_size is 64 and has no fields"),
        ("optimizer.lr=-1", r"lr=-1\.0 must be positive"),
        ("num_epochs=3", "num_steps=1000 and num_epochs=3 contradict.*set the other to none"),
        ("model.temperature=0", "temperature=0.0 must be above 0"),
    ],
)
def test_the_error_for_an_override_names_what_is_wrong_and_what_was_meant(
    assignment: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(tiny(), [assignment])


def test_a_group_is_not_set_twice_in_two_ways() -> None:
    with pytest.raises(ConfigError, match=r"'data\.path=x' contradicts another override"):
        apply_overrides(tiny(), ["data=y", "data.path=x"])


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("1e-4", float, 1e-4),
        ("true", bool, True),
        ("False", bool, False),
        ("none", str | None, None),
        ("runs/a.pt", str | None, "runs/a.pt"),
        ("none", float | None, None),
        ("-5.081", float | None, -5.081),
        ("time", Literal["time", "upstream"], "time"),
        ("(0.9, 0.98)", tuple[float, float], (0.9, 0.98)),
        ("10,15,20", tuple[int, ...], (10, 15, 20)),
        ("()", tuple[int, ...], ()),
    ],
)
def test_text_becomes_the_type_of_its_field(text: str, annotation: Any, value: Any) -> None:
    parsed = parse(text, annotation, "field")
    assert parsed == value
    assert type(parsed) is type(value)
