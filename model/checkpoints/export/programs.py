"""Export of the two encoders as programs that run without this package: `torch.export` and ONNX.

FOLDER/audio.onnx, image.onnx     or audio.pt2, image.pt2: (batch, ...) -> global_token, patches
FOLDER/encoders.json              their inputs and outputs, the model's configuration, its training
"""

import copy
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cavsync.errors import writing_output
from cavsync.model.checkpoints.export.parity import (
    Encode,
    EncoderName,
    EncoderOutputs,
    direction_difference,
    encode_with,
    item_shape,
    largest_difference,
    noise,
    require_near,
)
from cavsync.model.checkpoints.files.writing import temporary_folder
from cavsync.model.encoder import Encoder
from cavsync.model.errors import CheckpointError

ProgramFormat = Literal["torch-export", "onnx", "onnx-int8"]
ENDINGS: dict[ProgramFormat, str] = {"torch-export": ".pt2", "onnx": ".onnx", "onnx-int8": ".onnx"}
OUTPUTS = ["global_token", "patches"]
RECORD_NAME = "encoders.json"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Protocol buffers hold at most 2 GiB; larger weights go into a file beside the graph.
MAX_ONNX_BYTES = 2**31 - 2**24


def require_packages(program_format: ProgramFormat) -> None:
    """Raises CheckpointError where a package that the format needs is not installed."""
    missing = [] if program_format == "torch-export" else [n for n in ONNX_PACKAGES if find_spec(n) is None]
    if missing:
        raise CheckpointError(
            f"ONNX needs {', '.join(ONNX_PACKAGES)}; not installed: {', '.join(missing)}. "
            "Install the extra: pip install 'cavsync[onnx]'."
        )


def compared_by(program_format: ProgramFormat) -> str:
    """The name of the difference to the model that is measured of a format."""
    return "direction_difference" if program_format == "onnx-int8" else "largest_difference"


def export_encoders(
    model: Encoder,
    folder: Path,
    program_format: ProgramFormat,
    tolerance: float,
    record: Mapping[str, Any],
) -> dict[EncoderName, float]:
    """Writes both encoders and `encoders.json` with the given `record`; returns the difference of each to `model`.

    Each is read back and compared first; above `tolerance` nothing is written and CheckpointError is raised. What is
    compared is every number of the outputs, and of "onnx-int8" the direction of the global token: 1 - cosine.
    """
    require_packages(program_format)
    differ = direction_difference if program_format == "onnx-int8" else largest_difference
    differences: dict[EncoderName, float] = {}
    with writing_output(folder), temporary_folder(folder) as temporary:
        for name in get_args(EncoderName):
            path = temporary / (name + ENDINGS[program_format])
            _write(model, name, path, program_format)
            differences[name] = differ(model, name, open_encoder(path))
        require_near(folder, differences, tolerance)
        described = _described(model, program_format, differences) | {"tolerance": tolerance} | dict(record)
        (temporary / RECORD_NAME).write_text(json.dumps(described, indent=1))
        folder.mkdir(exist_ok=True)
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
    return differences


def open_encoder(path: Path) -> Encode:
    """The program in a file of `export_encoders`, as a function on the CPU from (batch, ...) to its outputs."""
    if path.suffix == ENDINGS["torch-export"]:
        program: Encode = torch.export.load(path).module()
        return program
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def encode(batch: Tensor) -> EncoderOutputs:
        global_token, patches = session.run(OUTPUTS, {path.stem: batch.numpy()})
        return torch.from_numpy(global_token), torch.from_numpy(patches)

    return encode


def _write(model: Encoder, name: EncoderName, path: Path, program_format: ProgramFormat) -> None:
    program = _traced(_OneEncoder(model, name))
    if program_format == "torch-export":
        # On a full disk torch reports only that its file is shorter than it should be.
        with writing_output(path, RuntimeError):
            torch.export.save(program, path)
        return
    if program_format == "onnx-int8":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _write(model, name, Path(folder, path.name), "onnx")
            _quantize(Path(folder, path.name), path)
        return
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    with _quiet("onnxscript"):
        torch.onnx.export(
            program,
            f=path,
            input_names=[name],
            output_names=OUTPUTS,
            dynamic_shapes=({0: "batch"},),
            external_data=size > MAX_ONNX_BYTES,
            verbose=False,
        )


def _quantize(path: Path, out: Path) -> None:
    """Stores the weights of products as 8-bit integers; at run time their inputs are rounded so too, each by its own range."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size = sum(part.stat().st_size for part in path.parent.iterdir())
    with _quiet("root"):  # it recommends an analysis of shapes, which changes nothing here
        quantize_dynamic(
            path,
            out,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=size > 4 * MAX_ONNX_BYTES,
        )


class _OneEncoder(nn.Module):
    """One encoder of a model, without the parameters that its outputs do not depend on."""

    def __init__(self, model: Encoder, name: EncoderName) -> None:
        super().__init__()
        self.model, self.name = copy.deepcopy(model).cpu().float().eval(), name
        self.example = noise(model.config, name, 2)
        self._drop_unused()

    def forward(self, batch: Tensor) -> EncoderOutputs:
        return encode_with(self.model, self.name)(batch)

    def _drop_unused(self) -> None:
        named = dict(self.model.requires_grad_().named_parameters())
        total = sum(output.sum() for output in self(self.example))
        gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        for name, gradient in zip(named, gradients, strict=True):
            if gradient is None:
                module, _, parameter = name.rpartition(".")
                delattr(self.model.get_submodule(module), parameter)
        self.model.requires_grad_(False)


def _traced(encoder: _OneEncoder) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    program = torch.export.export(encoder, (encoder.example,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine
    return program


def _described(
    model: Encoder, program_format: ProgramFormat, differences: Mapping[EncoderName, float]
) -> dict[str, Any]:
    programs = {
        name: {
            "file": name + ENDINGS[program_format],
            "input": {"name": name, "shape": ["batch", *item_shape(model.config, name)]},
            "outputs": OUTPUTS,
            compared_by(program_format): difference,
        }
        for name, difference in differences.items()
    }
    return {"format": program_format, "encoders": programs, "model_config": asdict(model.config)}


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hides the warnings of a library about its own steps."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
