"""Proves study files: every shipped one parses and can be started, and a wrong key names the right one."""

from pathlib import Path

import pytest

from cavsync.train.errors import StudyError
from cavsync.train.study.study_file import parse_study, read_study, shipped_studies

SMALL = """
title = "t"
question = "q"
preset = "tiny"
reference = "a"
seeds = [0, 1]
metrics = ["retrieval-r1"]
[set]
batch_size = 32
optimizer.betas = [0.9, 0.95]
[arms.a]
[arms.b]
set.model.audio_rows = 1024
set.data.image_augmentation = true
set.monitor.every_steps = "none"
"""
NAMES = ["alignment", "loss-weights", "masking", "registers", "segment-length", "tokens"]


def test_the_studies_that_cavsync_brings_are_these() -> None:
    assert set(NAMES) <= set(shipped_studies())


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_a_shipped_study_has_five_seeds_its_own_world_and_arms_that_differ(name: str) -> None:
    study = read_study(name)
    assert len(study.seeds) >= 5
    assert study.world_config() is not None
    configs = [study.config(arm, "data") for arm in study.arms]
    assert all(first != second for number, first in enumerate(configs) for second in configs[:number])
    # A step takes as many clips as the world has, or fewer.
    assert all(config.batch_size <= study.world_config().num_train for config in configs)  # type: ignore[union-attr]


def test_tables_of_fields_become_the_configuration_of_an_arm() -> None:
    study = parse_study(SMALL, "small.toml")
    plain, changed = (study.config(arm, "data/mine") for arm in study.arms)
    assert (plain.batch_size, plain.optimizer.betas, plain.data.path) == (32, (0.9, 0.95), "data/mine")
    assert plain.model.audio_rows == 96
    assert (changed.model.audio_rows, changed.data.image_augmentation, changed.monitor.every_steps) == (
        1024,
        True,
        None,
    )
    assert (study.budgets, study.compute_of, study.score_at) == (
        ("equal-steps",),
        "a",
        (0.25, 0.5, 0.75, 1.0),
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('preset = "tiny"', 'preset = "tine"', r"Arm 'a': There is no preset 'tine'; did you mean 'tiny'"),
        ('question = "q"', "", "question is missing"),
        ("seeds = [0, 1]", "seed = [0, 1]", "no key 'seed'; did you mean 'seeds'"),
        ("seeds = [0, 1]", "seeds = [1, 1]", r"seeds=\[1, 1\] must be different"),
        ('reference = "a"', 'reference = "c"', "reference='c' is no arm"),
        ('"retrieval-r1"', '"retrieval-r2"', "metrics has 'retrieval-r2'; did you mean 'retrieval-r1'"),
        ("model.audio_rows", "model.audio_row", r"Arm 'b': ModelConfig has no field 'audio_row'"),
        ("= 1024", "= 1000", r"Arm 'b': audio_rows=1000 must be a multiple"),
        ("batch_size = 32", "seed = 3", "set.seed: the study sets it"),
        ("[arms.a]", "[arms.a]\nbudget = 1", "arm 'a' has no key 'budget'; did you mean 'budgets'"),
        ("[arms.a]", "[world]\nkinds = 3\n[arms.a]", "world has no key 'kinds'; did you mean 'num_kinds'"),
        (
            "[arms.a]",
            '[world]\ndifficulty = "hardest"\n[arms.a]',
            "world.difficulty='hardest' must be one of easy",
        ),
        ("[set]", 'pairs = [["a", "b"], ["b"]]\n[set]', r"pairs has \['b'\], which is not two arms"),
        ("[set]", 'pairs = [["a", "c"]]\n[set]', "pairs has 'c', which is no arm"),
        ("[set]", "score_at = [0.5]\n[set]", r"score_at=\[0.5\] must ascend from above 0 to 1"),
        ("[set]", 'budgets = ["equal-time"]\n[set]', "budgets has 'equal-time'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(before: str, after: str, message: str) -> None:
    assert before in SMALL
    with pytest.raises(StudyError, match=f"small.toml: .*{message}"):
        parse_study(SMALL.replace(before, after, 1), "small.toml")


def test_a_study_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study of that name is shipped; did you mean 'alignment'"):
        read_study("alinment")
    with pytest.raises(StudyError, match="cavsync study show"):
        read_study(str(tmp_path / "mine.toml"))
