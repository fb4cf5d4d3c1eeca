"""Proves what `cavsync checkpoint` prints and writes, and its errors."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from click.testing import Result
from support import command_line

from cavsync.cli.checkpoint import command as checkpoint
from cavsync.cli.main import ErrorGroup
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model, save_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import attention_probe, cavmae_finetuning, linear_probe
from cavsync.model.config import cavmae_base, sync_base

SIZES: dict[str, Any] = {"audio_rows": 64, "image_size": 48, "embed_dim": 24, "num_heads": 12}
SIZES |= {"encoder_depth": 2, "decoder_dim": 16, "decoder_depth": 1}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)

app = typer.Typer(cls=ErrorGroup)
app.add_typer(checkpoint.app, name="checkpoint")


def run(*arguments: object) -> Result:
    return command_line.run("checkpoint", *arguments, app=app)


def report(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Sync, as upstream saves it."""
    torch.manual_seed(0)
    tensors = {f"module.{name}": t for name, t in official_state_dict(CavMaeSync(SYNC)).items()}
    torch.save(tensors, tmp_path / "cav_mae_sync.pth")
    return tmp_path / "cav_mae_sync.pth"


def test_inspect_describes_a_published_file(published: Path) -> None:
    found = report("inspect", published)
    tensors = torch.load(published, weights_only=True)
    assert (found["kind"], found["layout"]) == ("CAV-MAE Sync, pretrained", "official")
    assert found["num_tensors"] == len(tensors)
    assert (
        found["num_parameters"]
        == found["num_official_parameters"]
        == sum(t.numel() for t in tensors.values())
    )
    assert found["num_released_parameters"] == 190_660_864
    assert found["model_config"] == asdict(SYNC)
    text = run("inspect", published).stdout
    assert "the released model has 190,660,864" in text
    assert "num_registers = 8" in text
    assert "not stated in the file" in text


def test_inspect_shows_how_a_checkpoint_was_trained(tmp_path: Path) -> None:
    content = {"model": CavMaeSync(SYNC).state_dict(), "model_config": asdict(SYNC), "step": 1200}
    torch.save(content | {"config": {"preset": "sync-base", "optimizer": {"lr": 2e-4}}}, tmp_path / "last.pt")
    assert report("inspect", tmp_path / "last.pt")["training"]["step"] == 1200
    text = run("inspect", tmp_path / "last.pt").stdout
    assert "config.optimizer.lr = 0.0002" in text
    save_model(CavMaeSync(SYNC), tmp_path, training={"step": 3})
    assert report("inspect", tmp_path)["training"] == {"step": 3}


@pytest.mark.parametrize(
    ("classifier", "kind", "released"),
    [
        (CavMaeClassifier(CAVMAE, cavmae_finetuning(309)), "CAV-MAE, classifier of 309 classes", 164_739_381),
        (
            CavMaeClassifier(SYNC, attention_probe(527)),
            "CAV-MAE Sync, classifier of 527 classes",
            221_782_799,
        ),
    ],
    ids=["CAV-MAE", "Sync"],
)
def test_a_published_classifier_is_inspected_imported_and_exported(
    tmp_path: Path, classifier: CavMaeClassifier, kind: str, released: int
) -> None:
    tensors = official_state_dict(classifier)
    torch.save(tensors, tmp_path / "best.pth")
    found = report("import", tmp_path / "best.pth", tmp_path / "ours.safetensors")
    assert (found["kind"], found["num_released_parameters"]) == (kind, released)
    assert load_model(tmp_path / "ours.safetensors").classifier == classifier.classifier
    report("export", tmp_path / "ours.safetensors", tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_importing_and_exporting_keeps_every_published_tensor(published: Path, tmp_path: Path) -> None:
    found = report("import", published, tmp_path / "ours")
    assert found["written"] == str(tmp_path / "ours" / "model.safetensors")
    assert found["written_tensors"] == len(load_model(tmp_path / "ours").state_dict())
    # What the published file does not state is recorded as taken, not as known.
    taken = {"num_heads": 12, "keep_registers": False, "decoder_num_heads": 16, "norm_pix": True}
    training = report("inspect", tmp_path / "ours")["training"]
    assert training == {"imported_from": "cav_mae_sync.pth", "taken_as_published": taken}
    exported = report("export", tmp_path / "ours", tmp_path / "new" / "out.pth", "--prefix", "module.")
    before = torch.load(published, weights_only=True)
    after = torch.load(tmp_path / "new" / "out.pth", weights_only=True)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert exported["written_parameters"] == found["num_parameters"]


def test_fields_that_a_published_file_does_not_state_can_be_set(published: Path, tmp_path: Path) -> None:
    options = ("--set", "num_heads=4", "--set", "norm_pix=false")
    report("import", published, tmp_path / "ours", *options)
    config = load_model(tmp_path / "ours").config
    assert (config.num_heads, config.norm_pix) == (4, False)
    torch.save(
        official_state_dict(CavMaeClassifier(SYNC, attention_probe(5, "audio"))), tmp_path / "audio.pth"
    )
    result = run("inspect", tmp_path / "audio.pth")
    assert (result.exit_code, "modality" in result.output) == (1, True)
    found = report("inspect", tmp_path / "audio.pth", "--set", "modality=audio")
    assert found["classifier_config"]["modality"] == "audio"


def test_nothing_is_replaced_without_force(published: Path, tmp_path: Path) -> None:
    for command, out in (("import", tmp_path / "model.safetensors"), ("export", tmp_path / "out.pth")):
        out.write_bytes(b"precious")
        result = run(command, published, out)
        assert (result.exit_code, out.read_bytes()) == (1, b"precious")
        assert "exists; give another name, or --force" in result.output
        assert run(command, published, out, "--force").exit_code == 0


def test_a_damaged_file_gives_one_line_and_writes_nothing(published: Path, tmp_path: Path) -> None:
    tensors = torch.load(published, weights_only=True)
    del tensors["module.norm_a.bias"]
    torch.save(tensors, published)
    result = run("import", published, tmp_path / "ours")
    assert result.exit_code == 1
    assert "1 missing (norm_a.bias)" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "ours").exists()


def test_a_head_that_upstream_lacks_is_inspected_and_not_exported(tmp_path: Path) -> None:
    path = save_model(CavMaeClassifier(SYNC, linear_probe(5)), tmp_path)
    assert "none: the published code has no such head" in run("inspect", path).stdout
    result = run("export", path, tmp_path / "out.pth")
    assert (result.exit_code, "upstream has no linear head" in result.output) == (1, True)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect",), "Missing argument"),
        (("import", "{path}"), "Missing argument"),
        (("export", "{path}", "out.safetensors"), "does not end in .pth"),
        (("inspect", "{path}", "--set", "num_heads"), "is not FIELD=VALUE"),
        (("inspect", "{path}", "--set", "nun_heads=4"), "did you mean"),
    ],
)
def test_wrong_usage_exits_2(published: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(*(argument.format(path=published) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_every_command_has_a_help_text() -> None:
    assert all(name in run("--help").output for name in ("inspect", "import", "export"))
    for name in ("inspect", "import", "export"):
        assert run(name, "--help").exit_code == 0
