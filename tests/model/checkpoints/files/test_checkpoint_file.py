"""Proves that a file is read or refused with its name, a reason and a way out, and that none runs code."""

import contextlib
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model, save_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import tiny
from cavsync.model.errors import CheckpointError

CONFIG = replace(
    tiny(),
    audio_rows=32,
    image_size=32,
    embed_dim=8,
    num_heads=2,
    encoder_depth=1,
    decoder_dim=8,
    decoder_num_heads=2,
)
FILES = ("official.pth", "last.pt", "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One good file of each kind, by name."""
    folder, model = tmp_path_factory.mktemp("whole"), CavMaeSync(CONFIG)
    torch.save(official_state_dict(model), folder / "official.pth")
    torch.save({"model": model.state_dict(), "model_config": asdict(CONFIG)}, folder / "last.pt")
    save_model(model, folder)
    return {name: (folder / name).read_bytes() for name in FILES}


def refused(path: Path, match: str = "") -> None:
    with pytest.raises(CheckpointError, match=rf"{path.name} .*{match}"):
        load_model(path)


class Attack:
    """An object whose unpickling leaves a file behind."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (Path("attacked"),))


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Attack(), "model_config": {}}, tmp_path / "attack.pth")
    torch.save({"model": {}, "model_config": Attack()}, tmp_path / "attack.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack()))
    for name in ("attack.pth", "attack.pt", "plain.pth"):
        refused(tmp_path / name, "not made of tensors alone, and nothing else is ever unpickled")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 0.9999])
def test_a_truncated_file_is_refused(
    tmp_path: Path, whole: dict[str, bytes], name: str, fraction: float
) -> None:
    (tmp_path / name).write_bytes(whole[name][: int(len(whole[name]) * fraction)])
    refused(tmp_path / name, "cannot be read as a checkpoint: .*Fetch or write it again")


@given(name=st.sampled_from(FILES), cut=st.integers(0), junk=st.binary(max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_in_junk_is_refused(
    tmp_path: Path, whole: dict[str, bytes], name: str, cut: int, junk: bytes
) -> None:
    start = whole[name][: cut % len(whole[name])]
    (tmp_path / name).write_bytes(start + junk)
    if start + junk != whole[name]:
        refused(tmp_path / name)


@given(name=st.sampled_from(FILES), offset=st.integers(0, 3000), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_harmless(
    tmp_path: Path, whole: dict[str, bytes], name: str, offset: int, value: int
) -> None:
    content = bytearray(whole[name])
    content[offset % len(content)] = value
    (tmp_path / name).write_bytes(content)
    # A byte of a weight may be any byte; all else is refused, and by no other error.
    with contextlib.suppress(CheckpointError):
        load_model(tmp_path / name, num_heads=2, decoder_num_heads=2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "it is a web page"),
        (b"\n  <html></html>", "it is a web page"),
        (b"hello there\n", "it is no checkpoint"),
        (b'{"weights": 1}', "it is no checkpoint"),
        (bytes(200), "it is no checkpoint"),
    ],
)
def test_the_error_for_another_kind_of_file_names_the_kind(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "cav_mae_sync.pth").write_bytes(content)
    refused(tmp_path / "cav_mae_sync.pth", reason)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path / "model.safetensors", reason if b"<" in content or not content else "")


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "frames.pth", "w") as archive:
        archive.writestr("frame.txt", "not a tensor")
    refused(tmp_path / "frames.pth", "its archive is damaged, cut short, or no checkpoint's")


FOUR_BYTES: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": FOUR_BYTES | {"shape": [10**6], "data_offsets": [0, 4 * 10**6]}},
        {"a": FOUR_BYTES | {"shape": [10]}},
        {"a": FOUR_BYTES | {"shape": [-1]}},
        {"a": FOUR_BYTES | {"dtype": "PICKLE"}},
        {"a": FOUR_BYTES, "b": FOUR_BYTES},
        {"a": FOUR_BYTES | {"data_offsets": [4, 0]}},
        {"a": FOUR_BYTES, "__metadata__": {"cavsync_model_config": "{not json"}},
        {"a": FOUR_BYTES, "__metadata__": {"cavsync_model_config": "[1]"}},
        {"a": FOUR_BYTES, "__metadata__": {"cavsync_model_config": "{}"}},
        [1, 2],
    ],
)
def test_safetensors_with_a_lying_header_are_refused(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + text)
    refused(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder_depth": 10**9}, "1000000002 blocks are configured, and it has"),
        ({"mlp_ratio": 1e300}, "its configuration cannot be built"),
        ({"mlp_ratio": float("inf")}, "its configuration cannot be built"),
        ({"embed_dim": 2**40, "num_heads": 1}, ""),
        ({"temperature": float("nan")}, "temperature=nan must be above 0"),
        ({"num_heads": "2"}, "num_heads='2' must be of type int"),
    ],
)
def test_a_lying_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    content = {"model": CavMaeSync(CONFIG).state_dict(), "model_config": asdict(CONFIG) | changes}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=rf"last\.pt .*{reason}"):
        load_model(tmp_path / "last.pt")


def test_a_few_bytes_do_not_become_a_huge_tensor(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = official_state_dict(CavMaeSync(CONFIG))
    tensors["pos_embed_a"] = torch.zeros(1).expand(1, 8 * 2**30, 8)  # 256 GiB, of four bytes
    torch.save(tensors, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError, match=r"pos_embed_a is \(1, 8589934592, 8\) without its values"):
        load_model(tmp_path / "bomb.pth", num_heads=2, decoder_num_heads=2)


def test_the_error_for_a_configuration_without_a_size_names_the_size(tmp_path: Path) -> None:
    model = CavMaeSync(CONFIG)
    config = {name: value for name, value in asdict(CONFIG).items() if name != "audio_rows"}
    torch.save({"model": model.state_dict(), "model_config": config}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt gives no valid configuration: it has no audio_rows"):
        load_model(tmp_path / "last.pt")
