"""The model card of an exported folder: how to load it, what it was trained on, its figures and its limits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.model.checkpoints.description import Description
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, SAMPLE_RATE_HZ
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.inputs import CheckpointInputs
from cavsync.train.errors import EvaluationError
from cavsync.train.reporting.record import RECORD_NAME, Record

# Fields of a run's configuration that a reader of the card looks for, dotted, with their names.
TRAINING_ROWS = {
    "preset": "preset",
    "data.path": "dataset",
    "data.split": "split",
    "num_steps": "steps",
    "num_epochs": "epochs",
    "batch_size": "clips in a step",
    "optimizer.lr": "learning rate",
    "seed": "seed",
}

# Of results whose name is not that of their command.
COMMANDS = {
    "synchrony-pairs": "eval synchrony --manifest",
    "synchrony-video": "eval synchrony --video",
    "localize-video": "localize",
    "study": "study run",
}

PRETRAINED_EXAMPLE = """from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)
# waveform: floats (samples,) at 16 kHz; frames: PIL images, or uint8 arrays; frame_times_s: one for each frame
inputs = processor(audio=waveform, images=frames, frame_times_s=frame_times_s)
audio_embeds = model.get_audio_embeds(inputs["input_values"])  # (frames, dim), unit vectors
image_embeds = model.get_image_embeds(inputs["pixel_values"])
similarity = audio_embeds @ image_embeds.T  # (frames, frames), cosines"""

CLASSIFIER_EXAMPLE = """from transformers import AutoModelForVideoClassification, AutoProcessor

processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
model = AutoModelForVideoClassification.from_pretrained(FOLDER, trust_remote_code=True)
# waveform: floats (samples,) at 16 kHz; frames: PIL images, or uint8 arrays; frame_times_s: one for each frame
inputs = processor(audio=[waveform], images=[frames], frame_times_s=[frame_times_s])  # of one video
logits = model(**inputs).logits  # (1, classes)"""


@dataclass(frozen=True)
class ModelCard:
    """What README.md of a folder says."""

    name: str
    description: Description
    inputs: CheckpointInputs
    """How a log-mel is normalised and cut."""
    assumed: Mapping[str, Any]
    """Fields of the model that its file does not state, with the published values that they were given."""
    reports: Sequence[Record]
    """Contents of report.json."""

    @property
    def text(self) -> str:
        """Markdown with the header that the hub reads."""
        tag = "feature-extraction" if self.description.classifier_config is None else "video-classification"
        head = f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [audio-visual, cav-mae-sync, cavsync]\n---"
        parts = (self._summary(), self._use(), self._training(), self._figures(), self._limits())
        return "\n\n".join([head, f"# {self.name}", *parts]) + "\n"

    def _summary(self) -> str:
        return (
            f"{self.description.kind}, {self.description.num_parameters:,} parameters, exported by cavsync."
        )

    def _use(self) -> str:
        example = PRETRAINED_EXAMPLE if self.description.classifier_config is None else CLASSIFIER_EXAMPLE
        return (
            f"## Use\n\nThe code of this folder runs without cavsync: the model needs torch and transformers, the "
            f"processor torchvision too. Read it before you trust it.\n\n```python\n{example}\n```"
        )

    def _training(self) -> str:
        training = self.description.training or {}
        rows = dict(_training_rows(training))
        if not rows:
            return "## Training\n\nThe file that was exported does not say how the model was trained."
        return "## Training\n\n" + _table(("what", "value"), list(rows.items()))

    def _figures(self) -> str:
        if not self.reports:
            return "## Figures\n\nNo evaluation of these weights was given to the export."
        return "## Figures\n\n" + "\n\n".join(map(_figures_of, self.reports))

    def _limits(self) -> str:
        model = self.description.model_config
        seconds = model["audio_rows"] / MEL_ROWS_PER_S
        config, side = self.inputs.config, model["image_size"]
        size = f"{seconds:g} s of audio with one channel at {SAMPLE_RATE_HZ} Hz, and one image of {side} x {side} pixels"
        statistics = f"mean {config.mel_mean:g}, deviation {config.mel_std:g} of the log-mel"
        lines = [
            f"An input is {size}; what is longer is taken piece by piece.",
            f"Audio is normalised with the statistics of the training, whatever the audio is: {statistics}.",
            "The similarity of audio and images ranks candidates; it is no probability, and has no threshold of its own.",
            "No licence of the weights is stated: it depends on the weights they started from, and on their data.",
            "Nothing is known of data unlike those of the training, nor of groups of people in it.",
        ]
        if assumed := {**self.assumed, **self.inputs.assumed}:
            listed = ", ".join(f"`{name}={value}`" for name, value in assumed.items())
            lines.append(
                f"The file that was exported does not state {listed}: these are the published model's."
            )
        return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def reports_of(weights: Path) -> list[Record]:
    """The reports in the folder of a run on exactly the file `weights`; those of other weights are left out."""
    file = weights.resolve()
    run = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    found = [read_report(path) for path in sorted(run.glob(f"*/{RECORD_NAME}"))]
    if not found:
        return []
    digest = sha256(file)
    return [record for record in found if (record["checkpoint"] or {}).get("sha256") == digest]


def read_report(path: Path) -> Record:
    """The report in a folder, or in its report.json; EvaluationError where there is none."""
    file = path / RECORD_NAME if path.is_dir() else path
    try:
        record: Record = json.loads(file.read_text())
        if not {"evaluation", "figures", "checkpoint", "data", "counts"} <= record.keys():
            raise ValueError("it has no figures of an evaluation")
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{file} is no report: {error}. Give a folder that `cavsync eval` wrote, or its report.json."
        ) from error
    return record


def _training_rows(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    config = training.get("config") or {}
    for field, name in TRAINING_ROWS.items():
        group, _, last = field.rpartition(".")
        value = (config.get(group) or {} if group else config).get(last)
        if value is not None:
            paths = [value] if isinstance(value, str) else value
            yield name, ", ".join(Path(path).name for path in paths) if field == "data.path" else str(value)
    if training.get("initial_weights"):
        yield "started from", str(training["initial_weights"])
    for name in ("step", "imported_from", "weights"):
        if name in training:
            yield name.replace("_", " "), str(training[name])
    if training.get("labels"):
        yield "classes", str(len(training["labels"]))


def _figures_of(record: Record) -> str:
    scored, data = record["counts"]["scored"], Path(record["data"]["path"]).name
    rows = [
        (name, _number(one["value"], one["unit"]), _interval(one), _number(one["chance"], one["unit"]))
        for name, one in record["figures"].items()
    ]
    table = _table(("figure", "value", "95 % interval", "chance"), rows)
    command = COMMANDS.get(record["evaluation"], f"eval {record['evaluation']}")
    return f"`cavsync {command}` on {scored:,} items of {data}:\n\n{table}"


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None or figure["high"] is None:
        return ""
    return f"{_number(figure['low'], figure['unit'])} to {_number(figure['high'], figure['unit'])}"


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g} {unit}".strip()


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
