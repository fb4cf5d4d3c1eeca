"""Proves that exported encoders compute what the model does, in batches of any size, and leave nothing else."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import typer
from click.testing import Result
from support.command_line import run
from torch import Tensor

from cavsync.cli.checkpoint import command as checkpoint
from cavsync.cli.main import ErrorGroup
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import open_checkpoint, save_model
from cavsync.model.checkpoints.export import programs as exported
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import linear_probe
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.encoder import Encoder

SIZES: dict[str, Any] = {"audio_rows": 64, "image_size": 48, "embed_dim": 24, "num_heads": 4}
SIZES |= {"encoder_depth": 1, "decoder_dim": 16, "decoder_depth": 1}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)
EVERYTHING = replace(SYNC, global_tokens="per-task", keep_registers=True, contrastive_head_depth=1)

BOTH = ("audio", "image")

app = typer.Typer(cls=ErrorGroup)
app.add_typer(checkpoint.app, name="checkpoint")


def export(*arguments: object) -> Result:
    return run("checkpoint", "export", *arguments, app=app)


def stored(config: ModelConfig, folder: Path) -> Path:
    torch.manual_seed(0)
    training = {"step": 3, "config": {"data": {"mel_mean": -6.5, "mel_std": 3.5, "pad_value": -6.5}}}
    return save_model(CavMaeSync(config), folder / "model.safetensors", training)


def plain(output: str) -> str:
    """Without the frame and the line breaks that depend on the width of the terminal."""
    return " ".join(output.replace("│", " ").split())


def some_inputs(config: ModelConfig, batch: int) -> dict[str, Tensor]:
    return {
        "audio": torch.randn(batch, config.audio_rows, config.num_mels),
        "image": torch.randn(batch, 3, config.image_size, config.image_size),
    }


def run_onnx(path: Path, batch: Tensor) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    assert [tensor.name for tensor in session.get_outputs()] == ["global_token", "patches"]
    assert session.get_inputs()[0].shape == ["batch", *batch.shape[1:]]
    outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    return outputs


@lru_cache(maxsize=2)  # reading takes a second
def read_program(path: Path) -> torch.export.ExportedProgram:
    return torch.export.load(path)


def run_program(path: Path, batch: Tensor) -> list[np.ndarray]:
    outputs: list[Tensor] = read_program(path).module()(batch)
    return [output.detach().numpy() for output in outputs]


def weights_of(path: Path) -> str:
    """All their names."""
    if path.suffix == ".pt2":
        return " ".join(read_program(path).state_dict)
    import onnx

    return " ".join(tensor.name for tensor in onnx.load(path).graph.initializer)


def only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One encoder is exported: both take the same way, and tracing takes seconds."""
    monkeypatch.setattr(exported, "EncoderName", Literal[name])  # type: ignore[valid-type]


def require_same_outputs(path: Path, folder: Path, ending: str, names: Sequence[str] = BOTH) -> None:
    """Neither batch is of the size that programs are traced or checked with."""
    model = open_checkpoint(path).build()
    run = run_onnx if ending == ".onnx" else run_program
    for size in (1, 5):
        inputs = some_inputs(model.config, size)
        with torch.no_grad():
            encodings = {
                "audio": model.encode_audio(inputs["audio"]),
                "image": model.encode_image(inputs["image"]),
            }
        for name in names:
            encoding = encodings[name]
            global_token, patches = run(folder / (name + ending), inputs[name])
            np.testing.assert_allclose(global_token, encoding.global_token, atol=checkpoint.TOLERANCE, rtol=0)
            np.testing.assert_allclose(patches, encoding.patches, atol=checkpoint.TOLERANCE, rtol=0)


@pytest.mark.parametrize(("kind", "ending"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
def test_both_encoders_compute_what_the_model_does_and_the_record_holds_their_shapes(
    kind: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ONNX the weights of the image encoder are too many for a file: they lie beside the graph."""
    monkeypatch.setattr(exported, "MAX_ONNX_BYTES", 130_000)
    path, out = stored(EVERYTHING, tmp_path), tmp_path / "new" / "out"
    result = export(path, out, "--format", kind, "--json")
    assert result.exit_code == 0, result.output
    require_same_outputs(path, out, ending)
    assert sorted(each.name for each in out.iterdir()) == [
        f"audio{ending}",
        "encoders.json",
        f"image{ending}",
        *(["image.onnx.data"] if ending == ".onnx" else []),
    ]
    for name, own, other in (("audio", "blocks_a", "blocks_v"), ("image", "blocks_v", "blocks_a")):
        content = (out / (name + ending)).read_bytes()
        weights = weights_of(out / (name + ending))
        assert (own in weights, other in weights, "decoder" in weights) == (True, False, False)
        assert str(Path(exported.__file__).parent).encode() not in content
    printed, record = json.loads(result.stdout), json.loads((out / "encoders.json").read_text())
    assert record["model_config"] == asdict(EVERYTHING)
    assert record["training"]["step"] == 3
    assert record["encoders"]["audio"]["input"] == {"name": "audio", "shape": ["batch", 64, 128]}
    assert record["inputs"]["mel_mean"] == -6.5
    assert record["inputs"]["image_std"] == [0.229, 0.224, 0.225]
    differences = {name: each["largest_difference"] for name, each in record["encoders"].items()}
    assert printed["largest_difference"] == differences
    assert printed["tolerance"] == record["tolerance"] == checkpoint.TOLERANCE


def test_weights_of_8_bits_give_nearly_the_same_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    only("audio", monkeypatch)
    path, out = stored(CAVMAE, tmp_path), tmp_path / "out"
    result = export(path, out, "--format", "onnx-int8", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(each.name for each in out.iterdir()) == ["audio.onnx", "encoders.json"]
    record = json.loads((out / "encoders.json").read_text())
    assert (record["format"], record["tolerance"]) == ("onnx-int8", checkpoint.INT8_TOLERANCE)
    difference = record["encoders"]["audio"]["direction_difference"]
    assert 0 < difference <= checkpoint.INT8_TOLERANCE
    assert json.loads(result.stdout)["direction_difference"] == {"audio": difference}
    model, audio = open_checkpoint(path).build(), some_inputs(CAVMAE, 5)["audio"]
    with torch.no_grad():
        expected = model.encode_audio(audio).global_token
    (ours, patches) = run_onnx(out / "audio.onnx", audio)
    assert float(torch.cosine_similarity(torch.from_numpy(ours), expected, dim=-1).min()) > 0.99
    assert patches.shape == (5, 8, 4, 24)
    kinds = [tensor.data_type for tensor in onnx.load(out / "audio.onnx").graph.initializer]
    # Of each of the two blocks the products of queries, keys and values, of their result, and both of the MLP.
    assert kinds.count(onnx.TensorProto.INT8) >= 2 * 4

    def written(model: Encoder, name: str, path: Path, program_format: str) -> None:
        shutil.copy(out / path.name, path)

    monkeypatch.setattr(exported, "_write", written)  # it would take seconds again
    result = export(path, tmp_path / "exact", "--format", "onnx-int8", "--tolerance", 0)
    assert result.exit_code == 1
    assert "more than the tolerance of 0.0e+00" in plain(result.output)
    assert not (tmp_path / "exact").exists()


def test_of_a_classifier_the_encoders_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only("image", monkeypatch)
    path = save_model(CavMaeClassifier(CAVMAE, linear_probe(5)), tmp_path)
    assert export(path, tmp_path / "out", "--format", "torch-export").exit_code == 0
    require_same_outputs(path, tmp_path / "out", ".pt2", ["image"])


@pytest.mark.parametrize("kind", ["torch-export", "official"])
def test_a_diverged_model_exits_1_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("image", monkeypatch)
    model = CavMaeSync(SYNC)
    torch.nn.init.constant_(model.norm_v.weight, torch.nan)
    path = save_model(model, tmp_path / "model.safetensors")
    result = export(path, tmp_path / ("out.pth" if kind == "official" else "out"), "--format", kind)
    assert result.exit_code == 1
    assert "outputs of the image encoder are NaN or infinite" in plain(result.output)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_program_with_other_outputs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = exported.open_encoder

    def slightly_wrong(path: Path) -> exported.Encode:
        encode = opened(path)
        return lambda batch: (encode(batch)[0], encode(batch)[1] + (path.stem == "image") * 2e-3)

    monkeypatch.setattr(exported, "open_encoder", slightly_wrong)
    only("image", monkeypatch)
    path, out = stored(SYNC, tmp_path), tmp_path / "programs.v1"
    out.mkdir()
    (out / "encoders.json").write_text("precious")
    result = export(path, out, "--format", "torch-export")
    assert (result.exit_code, "exists; give another name" in plain(result.output)) == (1, True)
    result = export(path, out, "--format", "torch-export", "--force")
    assert result.exit_code == 1
    assert "outputs of its image encoder differ from the model's by 2.0e-03" in plain(result.output)
    assert (out / "encoders.json").read_text() == "precious"
    result = export(path, out, "--format", "torch-export", "--force", "--tolerance", 0.01)
    assert (result.exit_code, (out / "image.pt2").exists()) == (0, True)


def test_without_the_packages_of_onnx_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = exported.find_spec
    monkeypatch.setattr(exported, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    result = export(stored(SYNC, tmp_path), tmp_path / "out", "--format", "onnx")
    assert result.exit_code == 1
    assert "not installed: onnxscript. Install the extra: pip install 'cavsync[onnx]'" in plain(result.output)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("out.onnx", ("--format", "onnx"), "must be a folder"),
        ("model.safetensors", ("--format", "onnx", "--force"), "must be a folder"),
        ("out", ("--format", "torch-export", "--prefix", "module."), "only the official format"),
        ("out", ("--format", "tflite"), "tflite"),
        ("out.pth", ("--tolerance", "-1"), "greater than or equal to 0"),
        ("out.pth", ("--tolerance", "nan"), "less than or equal to 1"),
    ],
)
def test_wrong_usage_exits_2(out: str, options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    path = stored(SYNC, tmp_path)
    result = export(path, tmp_path / out, *options)
    assert result.exit_code == 2
    assert message in plain(result.output)
