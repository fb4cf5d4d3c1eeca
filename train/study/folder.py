"""The folder of a study, which holds what was fixed before the first run, and every run.

study.json                    the study, the configuration, steps and operations of each arm, the dataset; written first
runs/ARM/N-steps/seed-S/      a run folder of `cavsync train pretrain`, and in it:
    scores.jsonl              one line per scored step: the value and chance level of each metric
    sessions.jsonl            one line per process that trained: its steps, its CPU and wall seconds
    result.json               the run is complete, or its loss became infinite; it is not started again
locks/                        which runs are in progress, so that several processes share the folder
world/, data/                 the small world of a study that makes one
report.json, report.html      of all complete runs
"""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import sha256
from cavsync.train.engine.config import as_dict, from_dict
from cavsync.train.errors import StudyError
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.study.definition import Arm, Study
from cavsync.train.study.plan import PlannedRun, budget_steps, planned_runs

FIXED_NAME, RESULT_NAME, SCORES_NAME, SESSIONS_NAME = (
    "study.json",
    "result.json",
    "scores.jsonl",
    "sessions.jsonl",
)
SCHEMA_VERSION = 1
TOOLS = ("cavsync", "torch", "numpy", "scipy")
# What may be added to a study that has begun; each addition is recorded with the number of results at that time.
ADDABLE = ("seeds", "arms")


@dataclass(frozen=True)
class StudyFolder:
    """A study that was written down; its arms are trained as that says, whatever presets say today."""

    root: Path
    study: Study
    content: Mapping[str, Any]
    """Of study.json."""

    @classmethod
    def open(cls, root: Path) -> "StudyFolder":
        """Raises StudyError where the folder holds no study."""
        file = root / FIXED_NAME
        if not file.is_file():
            raise StudyError(
                f"{root} holds no study: {file.name} is not there. Start one with `cavsync study run`."
            )
        content = json.loads(file.read_text())
        if content.get("schema_version") != SCHEMA_VERSION:
            raise StudyError(
                f"{file} has schema version {content.get('schema_version')}, not {SCHEMA_VERSION}."
            )
        stored = from_dict(Study, content["study"])
        return cls(root, restored(stored), content)

    @classmethod
    def fixed(cls, study: Study, root: Path, data: Path) -> "StudyFolder":
        """Writes the study down, or continues the one in `root`.

        Raises StudyError where that is another one: only seeds and arms may be added.
        """
        if not (root / FIXED_NAME).is_file():
            content = {
                "schema_version": SCHEMA_VERSION,
                "created": _now(),
                "additions": [],
                "versions": _versions(),
            }
            content |= {"study": as_dict(study), "data": _data(data), "arms": _arms(study, study.arms, data)}
        else:
            content = cls.open(root)._extended(study, data)
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(root / FIXED_NAME, json.dumps(content, indent=1, ensure_ascii=False).encode())
        return cls.open(root)

    @property
    def data(self) -> Path:
        return Path(self.content["data"]["path"])

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """All runs of the study, seed by seed."""
        return planned_runs(self.study, {name: arm["steps"] for name, arm in self.content["arms"].items()})

    def steps(self, arm: str, budget: str) -> int | None:
        """Steps of an arm under a budget; None where it has no runs under it."""
        found: int | None = self.content["arms"][arm]["steps"].get(budget)
        return found

    def config(self, run: PlannedRun) -> PretrainConfig:
        stored = from_dict(PretrainConfig, self.content["arms"][run.arm]["config"])
        return run.config(stored, self.study.score_at)

    def path(self, run: PlannedRun) -> Path:
        return self.root / run.name

    def result(self, run: PlannedRun) -> dict[str, Any] | None:
        """What a run ended with; None where it did not end yet."""
        file = self.path(run) / RESULT_NAME
        return json.loads(file.read_text()) if file.is_file() else None

    @contextmanager
    def claimed(self, run: PlannedRun) -> Iterator[None]:
        """Holds the run while the block lasts. Raises LockError while another process does."""
        with run_lock(self.root / "locks" / run.name.replace("/", ".")):
            yield

    def _extended(self, study: Study, data: Path) -> dict[str, Any]:
        """The content with the seeds and arms that `study` adds."""
        before, after = as_dict(self.study), as_dict(study)
        changed = [name for name in before if name not in ADDABLE and before[name] != after[name]]
        known, given = ({one["name"]: one for one in part["arms"]} for part in (before, after))
        changed += [f"arms.{name}" for name, arm in known.items() if given.get(name) != arm]
        if after["seeds"][: len(before["seeds"])] != before["seeds"]:
            changed.append("seeds")
        if _data(data)["sha256"] != self.content["data"]["sha256"]:
            changed.append("the dataset")
        if changed:
            raise StudyError(
                f"{self.root / FIXED_NAME} was written down before the runs, and {', '.join(changed)} would differ. Seeds "
                "and arms may be added at the end; for anything else start another folder with --out."
            )
        new_arms = [arm for arm in study.arms if arm.name not in known]
        new_seeds = list(study.seeds[len(self.study.seeds) :])
        content = dict(self.content) | {"study": after}
        if new_arms or new_seeds:
            seen = sum(self.result(run) is not None for run in self.runs)
            added = {
                "at": _now(),
                "arms": [arm.name for arm in new_arms],
                "seeds": new_seeds,
                "results_before": seen,
            }
            content["additions"] = [*content["additions"], added]
            content["arms"] = {**content["arms"], **_arms(study, new_arms, self.data)}
        return content


def restored(stored: Study) -> Study:
    """A study as JSON gave it back, with its arms as records."""
    arms = tuple(from_dict(Arm, arm) if isinstance(arm, dict) else arm for arm in stored.arms)
    return Study(**{**vars(stored), "arms": arms})


def _arms(study: Study, arms: "tuple[Arm, ...] | list[Arm]", data: Path) -> dict[str, Any]:
    """For each of `arms` its configuration, the operations of a step, and its steps under each budget."""
    configs = {arm.name: study.config(arm, str(data)) for arm in study.arms}
    flops = {name: config.batch_size * flops_of_a_clip(config) for name, config in configs.items()}
    num_steps = study.num_steps or _length(configs[study.reference])
    return {
        arm.name: {
            "steps": {budget: budget_steps(study, arm, budget, num_steps, flops) for budget in arm.budgets},
            "step_gflop": round(flops[arm.name] / 1e9, 3),
            "config": as_dict(configs[arm.name]),
        }
        for arm in arms
    }


def _length(config: PretrainConfig) -> int:
    """Steps of the preset on its dataset."""
    from cavsync.train.pretrain.trainer import open_source

    return config.total_steps(len(open_source(config)))


def _data(path: Path) -> dict[str, Any]:
    return {"path": str(path.absolute()), "sha256": sha256(path / "dataset.json")}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{tool: version(tool) for tool in TOOLS}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
