"""`cavsync checkpoint`: describe files of weights, import published ones, export to other formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from cavsync.cli.checkpoint import exports
from cavsync.cli.checkpoint.output import inputs_line, print_report
from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.console.paths import PathOrUrl, weights_argument
from cavsync.model.errors import CheckpointError

if TYPE_CHECKING:
    from cavsync.model.checkpoints.checkpoint import Checkpoint
    from cavsync.pipeline.storage.path import AnyPath
    from cavsync.train.data.inputs import CheckpointInputs

ExportFormat = Literal["official", "transformers", "torch-export", "onnx", "onnx-int8"]

# Another order of sums changes float32 outputs at the released size, which reach 5, by less than 1e-5.
TOLERANCE = 1e-4
# Of 8-bit integers, 1 - cosine: below 2e-4 in the demo's model (docs/exporting.md), 4e-4 in a random one of the released size, 1.4e-3
# in a random one of width 24.
INT8_TOLERANCE = 5e-3

app = typer.Typer(no_args_is_help=True)

PATH = Annotated[
    PathOrUrl,
    weights_argument(
        show_default=False,
        help="A run folder, a .safetensors file or its folder, a training checkpoint (.pt), or a published .pth file; also at a URL.",
    ),
]
FORCE = Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.callback()
def group() -> None:
    """Describe files of weights, import published files, export to other formats."""


@app.command()
def inspect(path: PATH, overrides: OverridesOption = None, as_json: JSON = False) -> None:
    """Describe a checkpoint: its model, configuration and size, and how it was trained if the file states it."""
    from cavsync.model.checkpoints.description import describe_checkpoint

    checkpoint, inputs = _open(path, overrides)
    print_report(describe_checkpoint(checkpoint), {"inputs": inputs_line(inputs)}, as_json)


@app.command("import")
def import_(
    path: PATH,
    out: Annotated[Path, typer.Argument(help="New .safetensors file, or a folder for model.safetensors.")],
    overrides: OverridesOption = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """Convert a published CAV-MAE or CAV-MAE Sync file, pretrained or fine-tuned, to safetensors.

    Every tensor must have the name and shape that the model needs; otherwise nothing is written.
    """
    from cavsync.model.checkpoints.checkpoint import save_model
    from cavsync.model.checkpoints.description import describe_checkpoint
    from cavsync.model.checkpoints.files.writing import checkpoint_path

    _require_free(checkpoint_path(out), force)
    checkpoint, inputs = _open(path, overrides)
    model = checkpoint.build()
    training = checkpoint.file.training or {"imported_from": path.name}
    if checkpoint.assumed:
        training = training | {"taken_as_published": dict(checkpoint.assumed)}
    written = save_model(model, out, training, inputs.stated)
    tensors = model.state_dict().values()
    result = {
        "written": str(written),
        "written_tensors": len(tensors),
        "written_parameters": sum(tensor.numel() for tensor in tensors),
    }
    print_report(describe_checkpoint(checkpoint), result, as_json)


@app.command()
def export(
    path: PATH,
    out: Annotated[Path, typer.Argument(help="New .pth file for --format official, else a new folder.")],
    export_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="official: all weights, in the layout of the published files. transformers: a folder that transformers "
            "loads with trust_remote_code=True. torch-export, onnx: the encoders of audio and of images as programs that "
            "take batches of any size; onnx-int8 stores their weights as 8-bit integers.",
        ),
    ] = "official",
    prefix: Annotated[
        str,
        typer.Option(help="Prefix of every name in the official format; the published files have `module.`."),
    ] = "",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Largest difference allowed between the outputs of the written file and of the model; of onnx-int8 the "
            "largest 1 - cosine of embeddings.",
            show_default=f"{TOLERANCE:.4f}; {INT8_TOLERANCE} of onnx-int8",
        ),
    ] = None,
    ema: Annotated[
        bool,
        typer.Option(
            "--ema",
            help="Export the moving average of the weights, of a run with ema.momentum or of a checkpoint (.pt) of it.",
        ),
    ] = False,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            help="Folder of a report of `cavsync eval` whose figures the model card of --format transformers shows; may be "
            "repeated.",
            show_default="those in the run folder on the exported weights",
        ),
    ] = None,
    overrides: OverridesOption = None,
    force: FORCE = False,
    as_json: JSON = False,
) -> None:
    """Export a model for code without cavsync.

    What the official layout cannot hold is written beside it, in OUT.json, which every command reads with it.
    The written files are read back alone, and their outputs on noise are compared with the model's.
    If these differ by more than --tolerance, the files are removed and the exit code is 1.
    """
    _check_out(out, export_format, prefix)
    if reports and export_format != "transformers":
        raise typer.BadParameter("only a folder for transformers has a model card", param_hint="--report")
    from cavsync.model.checkpoints.description import describe_checkpoint
    from cavsync.model.checkpoints.files.records import sidecar_path

    _require_free(out, force, is_folder=export_format != "official")
    if export_format == "official":
        _require_free(sidecar_path(out), force)
    checkpoint, inputs = _open(path, overrides, averaged=ema)
    if tolerance is None:
        tolerance = INT8_TOLERANCE if export_format == "onnx-int8" else TOLERANCE
    with Console(stderr=True).status("Writing, reading back and comparing"):
        if export_format == "official":
            result = exports.official_files(checkpoint, inputs, out, prefix, tolerance)
        elif export_format == "transformers":
            card = exports.model_card(checkpoint, inputs, out, reports, averaged=ema)
            result = exports.transformers_folder(checkpoint, inputs, out, tolerance, card)
        else:
            result = exports.programs(checkpoint, inputs, out, export_format, tolerance)
    print_report(describe_checkpoint(checkpoint), result, as_json)


def _check_out(out: Path, export_format: ExportFormat, prefix: str) -> None:
    if export_format == "official" and out.suffix not in (".pth", ".pt"):
        raise typer.BadParameter(f"{out} does not end in .pth", param_hint="OUT")
    if export_format != "official" and (out.is_file() or out.suffix in (".pth", ".pt", ".pt2", ".onnx")):
        raise typer.BadParameter(
            f"{out} must be a folder, because several files are written", param_hint="OUT"
        )
    if export_format != "official" and prefix:
        raise typer.BadParameter("only the official format has names with a prefix", param_hint="--prefix")


def _open(
    path: "AnyPath", overrides: list[str] | None, *, averaged: bool = False
) -> "tuple[Checkpoint, CheckpointInputs]":
    """The checkpoint in a file or run folder, and its inputs; `averaged` takes the moving average of its weights."""
    from cavsync.train.data.inputs import find_weights, newest_training_checkpoint
    from cavsync.train.embedding.checkpoint import open_with_inputs

    find = newest_training_checkpoint if averaged else find_weights
    weights = path if isinstance(path, Path) and not path.is_dir() else find(path)
    return open_with_inputs(weights, given_fields(overrides), averaged=averaged)


def _require_free(out: Path, force: bool, *, is_folder: bool = False) -> None:
    """Raises CavsyncError where `out` is there and may not be replaced, or cannot be written."""
    from cavsync.pipeline.storage.writable import require_writable_file, require_writable_folder

    if out.exists() and not force:
        raise CheckpointError(f"{out} exists; give another name, or --force to replace it")
    (require_writable_folder if is_folder else require_writable_file)(out)
