"""How a checkpoint's inputs were normalised and aligned, and where its weights lie."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from cavsync.model.checkpoints.checkpoint import require_fields
from cavsync.model.checkpoints.files.checkpoint_file import read_records
from cavsync.model.checkpoints.files.hub_path import fetched
from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.storage.filesystem import protocol_of
from cavsync.pipeline.storage.path import AnyPath
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import ConfigError, from_dict, require
from cavsync.train.engine.mirror.fetched import fetched_checkpoint, fetched_weights
from cavsync.train.engine.run_folder import CONFIG_NAME, WEIGHTS_NAME
from cavsync.train.errors import EvaluationError

# How published weights were fed: windows of the clip padded with raw zeros to 1024 rows, and one pair of
# statistics for AudioSet and VGGSound alike (upstream's loaders). They name no dataset.
PUBLISHED_INPUTS = DataConfig(path="", alignment="upstream", mel_mean=-5.081, mel_std=4.4849, pad_value=0.0)
# The part of the inputs that belongs to the weights, whatever clips they are given.
INPUT_FIELDS = ("alignment", "mel_mean", "mel_std", "pad_value")


def find_weights(checkpoint: AnyPath) -> Path:
    """The file to load: `checkpoint` itself, or the newest weights of a run folder; of what lies at a URL a local copy."""
    if not isinstance(checkpoint, Path) and protocol_of(checkpoint.url) != "hf":
        copy = fetched_weights(checkpoint, WEIGHTS_NAME, CONFIG_NAME)
        if copy is None:
            raise EvaluationError(
                f"{checkpoint} holds neither {WEIGHTS_NAME} nor checkpoints: is it a run of `cavsync train`, and has it "
                "saved anything yet?"
            )
        return copy
    checkpoint = fetched(Path(str(checkpoint)))
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise EvaluationError(f"{checkpoint} is not there: give a run folder or a checkpoint file.")
    weights = saved_weights(checkpoint)
    if weights is None:
        raise EvaluationError(
            f"{checkpoint} holds neither {WEIGHTS_NAME} nor checkpoints/last.pt: is it a run folder "
            "of `cavsync train`, and has the run saved anything yet?"
        )
    return weights


def newest_training_checkpoint(run: AnyPath) -> Path:
    """The newest training checkpoint of a run folder, which holds more than its weights; of one at a URL a local copy.

    Raises EvaluationError without one.
    """
    newest = (
        run / "checkpoints" / "last.pt" if isinstance(run, Path) else fetched_checkpoint(run, CONFIG_NAME)
    )
    if newest is None or not newest.is_file():
        raise EvaluationError(
            f"{run} holds no checkpoints/last.pt, where a run of `cavsync train` keeps the moving average of its weights."
        )
    return newest


def saved_weights(run: Path) -> Path | None:
    """The newest weights of a run folder; None where it has saved none."""
    files = (run / WEIGHTS_NAME, run / "checkpoints" / "last.pt")
    return next((file for file in files if file.is_file()), None)


def run_config(weights: Path, records: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The configuration of the run that made `weights`, by their own record, or else by the run folder around them.

    `records` are those of the file, where it is read already. None where nothing says it, as with published files:
    the folder around a file in their layout says nothing about it.
    """
    records = read_records(weights) if records is None else records
    recorded: dict[str, Any] = (records.get("training") or {}).get("config") or {}
    if "data" in recorded:
        return recorded
    may_be_of_run = bool(records.get("model_config")) or not weights.is_file()
    for folder in (weights.parent, weights.parent.parent) if may_be_of_run else ():
        # A folder of the Hugging Face hub has a config.json too, of the model alone.
        if (folder / CONFIG_NAME).is_file():
            config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text())
            if "data" in config:
                return config
    return None


def trained_inputs(weights: Path, records: Mapping[str, Any] | None = None) -> DataConfig | None:
    """The inputs that `weights` state, in a configuration or in a record of their own; None where they state none."""
    records = read_records(weights) if records is None else records
    config = run_config(weights, records)
    stated = records.get("inputs") or {}
    if config is None and not stated:
        return None
    # A run may be older than a field, which then has its default.
    known = [one.name for one in fields(DataConfig) if config and one.name in config["data"]]
    base = (
        PUBLISHED_INPUTS
        if config is None
        else from_dict(DataConfig, {name: config["data"][name] for name in known})
    )
    return replace(base, **{name: stated[name] for name in INPUT_FIELDS if name in stated})


@dataclass(frozen=True)
class CheckpointInputs:
    """How the inputs of a checkpoint are normalised and cut."""

    config: DataConfig
    assumed: Mapping[str, Any]
    """Fields that nothing states, with the published values that they were given."""

    @classmethod
    def of(cls, weights: Path, records: Mapping[str, Any], given: Mapping[str, Any]) -> "CheckpointInputs":
        """What `weights` state, with the fields in `given` instead; ConfigError for a value that cannot be."""
        stated = trained_inputs(weights, records)
        config = stated or PUBLISHED_INPUTS
        kept = {} if stated else {name: getattr(config, name) for name in INPUT_FIELDS if name not in given}
        return cls(_with_fields(config, given), kept)

    @property
    def fields(self) -> dict[str, Any]:
        """The values of INPUT_FIELDS, stated and assumed ones."""
        return {name: getattr(self.config, name) for name in INPUT_FIELDS}

    @property
    def stated(self) -> dict[str, Any] | None:
        """The fields for a record, None where all would be assumptions."""
        record = {name: value for name, value in self.fields.items() if name not in self.assumed}
        return record or None


def split_fields(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the model, and fields of its inputs; ModelConfigError, with the nearest, for a name of neither."""
    inputs = {name: value for name, value in given.items() if name in INPUT_FIELDS}
    model = {name: value for name, value in given.items() if name not in INPUT_FIELDS}
    require_fields(model, beside=INPUT_FIELDS)
    return model, inputs


def parse_fields(assignments: Iterable[str]) -> dict[str, Any]:
    """Field -> value of texts FIELD=VALUE; values are JSON, or the text itself. Raises ConfigError."""
    return dict(map(_field, assignments))


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not FIELD=VALUE, such as num_heads=4")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _with_fields(config: DataConfig, given: Mapping[str, Any]) -> DataConfig:
    for name, value in given.items():
        if name == "alignment":
            choices = get_args(Alignment)
            require(value in choices, f"alignment={value!r} must be one of {', '.join(choices)}.")
        else:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            require(is_number, f"{name}={value!r} must be a number.")
    return replace(config, **given)
