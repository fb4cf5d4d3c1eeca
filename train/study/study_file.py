"""Reads a study from its TOML file, and names the key that is wrong with the nearest right one."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from cavsync.pipeline.lists.names import SAFE_NAME
from cavsync.pipeline.lists.text import read_text
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.difficulty import DIFFICULTIES
from cavsync.train.engine.overrides import nearest
from cavsync.train.errors import StudyError
from cavsync.train.study.definition import Arm, Budget, Study
from cavsync.train.study.metrics import METRICS

# Set by the study for each run, so no arm may.
OWN_FIELDS = ("preset", "seed", "num_steps", "num_epochs")


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """The keys of a study file, with their defaults."""

    title: str
    question: str
    preset: str
    reference: str
    seeds: list[int]
    metrics: list[str]
    arms: dict[str, Any]
    num_steps: int | None = None
    budgets: list[str] = field(default_factory=lambda: ["equal-steps"])
    compute_of: str | None = None
    pairs: list[list[str]] = field(default_factory=list)
    score_at: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    split: str = "test"
    max_clips: int | None = None
    set: dict[str, Any] = field(default_factory=dict)
    world: dict[str, Any] | None = None


def shipped_studies() -> dict[str, str]:
    """Name -> the text of its TOML, of the studies that cavsync brings."""
    folder = resources.files("cavsync.train.study") / "studies"
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".toml")), key=lambda one: one.name)
    return {one.name.removesuffix(".toml"): one.read_text(encoding="utf-8") for one in files}


def read_study(source: str) -> Study:
    """The study in a TOML file, or the shipped one of that name; StudyError says what is wrong with it."""
    path = Path(source)
    if path.is_file():
        try:
            return parse_study(read_text(path), source)
        except UnicodeDecodeError as error:
            raise StudyError(f"{path} is no TOML in UTF-8: {error}.") from error
    shipped = shipped_studies()
    if path.suffix == ".toml" or source not in shipped:
        raise StudyError(
            f"{source} is no file, and no study of that name is shipped{nearest(source, shipped)}"
            if path.suffix != ".toml"
            else f"{source} is no file; `cavsync study show` prints a shipped study to begin with."
        )
    return parse_study(shipped[source], source)


def parse_study(text: str, source: str) -> Study:
    try:
        keys = _keys(tomllib.loads(text))
        study = _study(keys)
    except (tomllib.TOMLDecodeError, TypeError, ValueError, StudyError) as error:
        raise StudyError(f"{source}: {error}") from error
    for arm in study.arms:
        try:
            study.config(arm, "data")
        except StudyError as error:
            raise StudyError(f"{source}: {error}") from error
    return study


def _keys(content: Mapping[str, Any]) -> _Keys:
    fields = {one.name: one for one in dataclasses.fields(_Keys)}
    for name in content:
        if name not in fields:
            raise StudyError(f"a study has no key {name!r}{nearest(name, fields)}")
    required = [name for name, one in fields.items() if _is_required(one)]
    if missing := [name for name in required if name not in content]:
        raise StudyError(f"{', '.join(missing)} is missing.")
    return _Keys(**content)


def _is_required(one: "dataclasses.Field[Any]") -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def _study(keys: _Keys) -> Study:
    budgets = _choices("budgets", keys.budgets, get_args(Budget))
    arms = tuple(_arm(name, content, budgets) for name, content in keys.arms.items())
    _check_arms(keys)
    _check_numbers(keys)
    study = Study(
        title=keys.title,
        question=keys.question,
        preset=keys.preset,
        reference=keys.reference,
        compute_of=keys.compute_of or keys.reference,
        seeds=tuple(keys.seeds),
        num_steps=keys.num_steps,
        budgets=budgets,
        metrics=_choices("metrics", keys.metrics, tuple(METRICS)),
        score_at=tuple(float(one) for one in keys.score_at),
        split=keys.split,
        max_clips=keys.max_clips,
        assignments=_assignments("set", keys.set),
        world=keys.world,
        arms=arms,
        pairs=tuple((first, second) for first, second in keys.pairs),
    )
    _check_world(study)
    return study


def _check_arms(keys: _Keys) -> None:
    """Raises StudyError where there are too few arms, or one is named that is none."""
    names = list(keys.arms)
    _require(len(names) >= 2, f"arms has {len(names)}, and a study compares two or more.")
    for key in ("reference", "compute_of"):
        name = getattr(keys, key) or keys.reference
        _require(name in names, f"{key}={name!r} is no arm{nearest(name, names)}")
    for pair in keys.pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2 and pair[0] != pair[1]
        _require(is_pair, f"pairs has {pair!r}, which is not two arms.")
        for name in pair:
            _require(name in names, f"pairs has {name!r}, which is no arm{nearest(name, names)}")


def _check_numbers(keys: _Keys) -> None:
    """Raises StudyError for seeds, steps, scored fractions or clips out of their ranges."""
    seeds, at = keys.seeds, keys.score_at
    are_seeds = bool(seeds) and all(type(seed) is int and seed >= 0 for seed in seeds)
    _require(
        are_seeds and len(set(seeds)) == len(seeds),
        f"seeds={seeds} must be different whole numbers from 0 on.",
    )
    _require(keys.num_steps is None or keys.num_steps >= 1, f"num_steps={keys.num_steps} must be at least 1.")
    _require(
        bool(at) and list(at) == sorted(set(at)) and at[0] > 0 and at[-1] == 1,
        f"score_at={at} must ascend from above 0 to 1, the end of a run.",
    )
    _require(keys.max_clips is None or keys.max_clips >= 2, f"max_clips={keys.max_clips} must be at least 2.")


def _check_world(study: Study) -> None:
    if study.world is None:
        return
    known = [
        "difficulty",
        *(one.name for one in dataclasses.fields(WorldConfig) if one.name != "masked_splits"),
    ]
    for name in study.world:
        _require(name in known, f"world has no key {name!r}{nearest(name, known)}")
    difficulty = study.world.get("difficulty", "easy")
    _require(
        difficulty in DIFFICULTIES,
        f"world.difficulty={difficulty!r} must be one of {', '.join(DIFFICULTIES)}.",
    )
    study.world_config()


def _arm(name: str, content: Any, budgets: tuple[Any, ...]) -> Arm:
    _require(bool(SAFE_NAME.fullmatch(name)), f"arm {name!r}: a name has letters, digits, - and _.")
    _require(isinstance(content, dict), f"arm {name!r} must be a table, [arms.{name}].")
    known = ("about", "set", "budgets")
    for key in content:
        _require(key in known, f"arm {name!r} has no key {key!r}{nearest(key, known)}")
    return Arm(
        name=name,
        about=content.get("about", ""),
        assignments=_assignments(f"arms.{name}.set", content.get("set", {})),
        budgets=_choices(f"arms.{name}.budgets", content.get("budgets", budgets), budgets),
    )


def _assignments(key: str, tables: Any) -> tuple[str, ...]:
    _require(isinstance(tables, dict), f"{key} must be a table of fields, such as batch_size = 32.")
    flat = tuple(_flat(tables))
    for assignment in flat:
        name = assignment.partition("=")[0]
        _require(
            name not in OWN_FIELDS,
            f"{key}.{name}: the study sets it; num_steps and seeds are keys of the file.",
        )
    return flat


def _flat(tables: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`{"model": {"audio_rows": 96}}` as `["model.audio_rows=96"]`."""
    found = []
    for name, value in tables.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}={_text(value)}")
    return found


def _text(value: Any) -> str:
    """The value as `--set` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _choices(key: str, given: Sequence[str], known: Sequence[str]) -> tuple[Any, ...]:
    _require(
        bool(given) and len(set(given)) == len(given),
        f"{key}={list(given)} must name at least one, each once.",
    )
    for one in given:
        _require(one in known, f"{key} has {one!r}{nearest(one, known)}")
    return tuple(given)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise StudyError(message)
