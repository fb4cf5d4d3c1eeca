"""A hub that has the weights of one small ViT, and hubs that cannot be reached."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from support.servers.small_hub import small_hub

# A ViT that timm publishes for tests: 64 wide, 6 blocks, images of 160 x 160.
SMALL_VIT = "timm:test_vit.r160_in1k"
SMALL_VIT_SIZES = {
    "embed_dim": 64,
    "num_heads": 2,
    "encoder_depth": 5,
    "mlp_ratio": 3.0,
    "image_size": 160,
}


def write_small_vit(folder: Path) -> Path:
    """A file with random weights for it, as timm publishes them."""
    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(timm.create_model(SMALL_VIT.removeprefix("timm:")).state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


@contextmanager
def hub_of_small_vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the hub's files; a copy of this process finds the hub too."""
    folder = write_small_vit(tmp_path / "hub").parent
    with small_hub(folder) as address:
        use_hub(address, tmp_path / "cache", monkeypatch)
        yield folder


@contextmanager
def silent_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The connections to a hub that accepts them and never answers, as behind a firewall."""
    connections: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connections.append(server.accept())
                except OSError:  # the server is closed
                    return

        threading.Thread(target=accept, daemon=True).start()
        use_hub(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path / "cache", monkeypatch)
        yield connections


def blocked_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens where the hub is expected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    use_hub(address, tmp_path / "cache", monkeypatch)


def use_hub(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub at `address` instead of the public one, and an empty cache; the client read them when it was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
