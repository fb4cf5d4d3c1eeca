"""Proves that a file's frames and log-mels are let go once they are embedded, so that its length costs no memory."""

import gc
from pathlib import Path

import pytest
import torch
from support.known_shards import micro_model
from support.media import write_clip

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import Window
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder

WINDOWS_A_SEGMENT = 4


def test_only_the_windows_of_one_segment_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cavsync.pipeline.decoding.windows.MOST_WINDOWS", WINDOWS_A_SEGMENT)
    torch.manual_seed(0)
    save_model(CavMaeSync(micro_model(audio_rows=64)), tmp_path / "micro.safetensors")
    embedder = Embedder(LoadedCheckpoint.load(tmp_path / "micro.safetensors", "cpu"))
    clip = write_clip(tmp_path / "clip.mp4", 6.0)
    in_memory = []

    def on_second(done: int, total: int) -> None:
        in_memory.append(sum(type(one) is Window for one in gc.get_objects()))

    with DecoderProcess() as decoder:
        found = embedder.embed(clip.path, decoder, on_second)
    assert len(found.start_s) > 3 * WINDOWS_A_SEGMENT
    assert len(in_memory) > 3
    assert max(in_memory) <= WINDOWS_A_SEGMENT
