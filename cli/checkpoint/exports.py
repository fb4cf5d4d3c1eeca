"""The formats of `cavsync checkpoint export`, and the rows of its report."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cavsync.cli.checkpoint.output import inputs_line

if TYPE_CHECKING:
    from cavsync.model.checkpoints.checkpoint import Checkpoint
    from cavsync.model.checkpoints.export.programs import ProgramFormat
    from cavsync.train.data.inputs import CheckpointInputs
    from cavsync.train.huggingface.card import ModelCard


def official_files(
    checkpoint: "Checkpoint", inputs: "CheckpointInputs", out: Path, prefix: str, tolerance: float
) -> dict[str, Any]:
    from cavsync.model.checkpoints.export.official import export_official
    from cavsync.model.checkpoints.files.records import sidecar_path

    tensors, differences = export_official(
        checkpoint.build(), out, prefix, tolerance, checkpoint.file.training, inputs.stated
    )
    return {
        "written": str(out),
        "record": f"{sidecar_path(out)}: heads, inputs and training, which the layout cannot hold; keep it beside {out.name}",
        "written_tensors": len(tensors),
        "written_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "inputs": inputs_line(inputs),
        "largest_difference": differences,
        "tolerance": tolerance,
    }


def model_card(
    checkpoint: "Checkpoint",
    inputs: "CheckpointInputs",
    out: Path,
    reports: list[Path] | None,
    *,
    averaged: bool,
) -> "ModelCard":
    """The card with the figures of `reports`, or of those in the run folder; these are not of `averaged` weights."""
    from cavsync.model.checkpoints.description import describe_checkpoint
    from cavsync.train.huggingface.card import ModelCard, read_report, reports_of

    if reports:
        records = list(map(read_report, reports))
    else:
        records = [] if averaged else reports_of(checkpoint.file.path)
    requested = dataclasses.asdict(checkpoint.requested.model)
    described = dataclasses.replace(describe_checkpoint(checkpoint), model_config=requested)
    return ModelCard(out.resolve().name, described, inputs, checkpoint.assumed, records)


def transformers_folder(
    checkpoint: "Checkpoint", inputs: "CheckpointInputs", out: Path, tolerance: float, card: "ModelCard"
) -> dict[str, Any]:
    from cavsync.train.huggingface.folder import export_folder

    model, training = checkpoint.build(), checkpoint.file.training
    differences = export_folder(model, out, tolerance, inputs.fields, training, card.text)
    return {
        "written": ", ".join(str(path) for path in sorted(out.iterdir())),
        "inputs": inputs_line(inputs),
        "reports": f"{len(card.reports)} in the model card",
        "largest_difference": differences,
        "tolerance": tolerance,
    }


def programs(
    checkpoint: "Checkpoint",
    inputs: "CheckpointInputs",
    out: Path,
    export_format: "ProgramFormat",
    tolerance: float,
) -> dict[str, Any]:
    from cavsync.model.checkpoints.export.programs import compared_by, export_encoders
    from cavsync.train.data.images import IMAGE_MEAN, IMAGE_STD

    record = {
        "inputs": inputs.fields | {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD},
        "training": checkpoint.file.training,
    }
    model = checkpoint.build()
    differences = export_encoders(model, out, export_format, tolerance, record)
    head = checkpoint.requested.classifier
    left_out = {} if head is None else {"left_out": f"the {head.head} head of {head.num_classes} classes"}
    return {
        "written": ", ".join(str(path) for path in sorted(out.iterdir())),
        "inputs": inputs_line(inputs),
        **left_out,
        compared_by(export_format): differences,
        "tolerance": tolerance,
    }
