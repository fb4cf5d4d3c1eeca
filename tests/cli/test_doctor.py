"""Proves that `cavsync doctor` really decodes and computes, and that its exit code is that of the defaults."""

import json
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cavsync.cli import doctor as module
from cavsync.cli.doctor import Check, doctor
from cavsync.pipeline.media.backends import codec_check


def run(*options: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(options))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the seconds that torch and Ray take to import."""
    monkeypatch.setattr(module, "LIBRARIES", {"av": "av"})
    monkeypatch.setattr(module, "_gpu", lambda: Check("machine", "GPU", False, False, "none"))
    return monkeypatch


def test_this_machine_has_what_the_commands_need(tmp_path: Path) -> None:
    result = run("--json", "--root", str(tmp_path / "not" / "there" / "yet"))
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["usable"]
    found = {(check["part"], check["name"]): check for check in report["checks"]}
    assert all(
        found["pyav", codec]["usable"] for codec in (*codec_check.VIDEO_ENCODERS, *codec_check.AUDIO_ENCODERS)
    )
    for name in ("CPU cores", "memory", "disk", "GPU"):
        assert found["machine", name]["found"]
    for name in ("av", "torch", "torchaudio", "ray", "decord"):
        assert found["library", name]["found"][0].isdigit()
    assert "FFmpeg" in found["library", "av"]["found"]
    assert str(tmp_path) in found["machine", "disk"]["found"]


def test_the_table_shows_every_decoder_and_why_not(light: pytest.MonkeyPatch) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    for word in ("pyav", "decord", "ffmpeg", "h264", "vorbis", "GiB free", "by default is usable"):
        assert word in result.output
    assert "decord, av1: decord-0.6.0 cannot time this file" in result.output


def test_a_broken_default_exits_with_1(light: pytest.MonkeyPatch) -> None:
    def unsupported_reason(decoder: str, codec: str, folder: Path) -> str | None:
        return "it is gone" if (decoder, codec) == ("pyav", "hevc") else None

    light.setattr(codec_check, "unsupported_reason", unsupported_reason)
    result = run()
    assert result.exit_code == 1
    assert "pyav, hevc: it is gone" in result.output
    assert "Needed, but not usable: hevc" in result.output


def test_a_library_that_does_not_import_is_named(light: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    light.setattr(module, "import_module", broken)
    result = run("--json")
    assert result.exit_code == 1
    (av,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "av"]
    assert av["found"] == "cannot be imported: libcudart.so.13: cannot open shared object file"


def test_a_decoder_that_does_not_start_is_no_failure_unless_it_is_the_default(
    light: pytest.MonkeyPatch,
) -> None:
    def unsupported_reason(decoder: str, codec: str, folder: Path) -> str | None:
        if decoder == "decord":
            raise ImportError("no decord here")
        return None

    light.setattr(codec_check, "unsupported_reason", unsupported_reason)
    result = run()
    assert result.exit_code == 0
    assert "decord, h264: does not start: no decord here" in result.output


def test_a_codec_without_an_encoder_is_checked_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(codec_check.VIDEO_ENCODERS, "hevc", "no such encoder")
    assert codec_check.unsupported_reason("pyav", "hevc", tmp_path) is None
    monkeypatch.setitem(codec_check.VIDEO_ENCODERS, "vvc2", "no such encoder")
    assert codec_check.unsupported_reason("pyav", "vvc2", tmp_path) == "FFmpeg has no decoder of that name"


def checks(*options: str) -> dict[str, Any]:
    result = run("--json", *options)
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_the_optional_parts_are_the_extras_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {
        extra: [one.partition(">")[0] for one in wanted]
        for extra, wanted in project["optional-dependencies"].items()
    }
    assert {extra: list(libraries) for extra, (_, libraries) in module.EXTRAS.items()} == declared


def test_an_extra_that_is_not_installed_is_named_with_what_installs_it(light: pytest.MonkeyPatch) -> None:
    def without_onnxscript(name: str) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'")
        return import_module(name)

    light.setattr(module, "import_module", without_onnxscript)
    assert run().exit_code == 0  # no command needs it by default
    onnx = checks()["onnx"]
    assert (onnx["part"], onnx["usable"], onnx["needed"]) == ("optional", False, False)
    assert onnx["found"] == (
        "No module named 'onnxscript'. For checkpoint export --format onnx: pip install 'cavsync[onnx]'"
    )


@pytest.mark.parametrize(("cuda", "lacking"), [("13.0", "NVIDIA's driver"), (None, "a torch that was built")])
def test_what_a_gpu_lacks_is_named(monkeypatch: pytest.MonkeyPatch, cuda: str | None, lacking: str) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 0), version=SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(module, "import_module", lambda name: torch)
    assert f"a GPU needs {lacking}" in module._gpu().found


def test_little_shared_memory_is_named_with_the_option_for_more(light: pytest.MonkeyPatch) -> None:
    light.setattr(module, "MIN_SHM_BYTES", 2**60)
    memory = checks()["shared memory"]
    assert not memory["usable"]
    assert "docker run --shm-size=1g" in memory["found"]
