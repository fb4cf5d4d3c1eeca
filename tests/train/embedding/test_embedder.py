"""Proves that a file's frames and log-mels are let go once they are embedded, so that its length costs no memory."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from support.known_shards import frame_jpeg, micro_model
from support.media import write_clip

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import Window
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder

WINDOWS_A_SEGMENT = 4


def test_a_frame_of_several_windows_is_encoded_once(tmp_path: Path) -> None:
    save_model(CavMaeSync(micro_model()), tmp_path / "micro.safetensors")
    embedder = Embedder(LoadedCheckpoint.load(tmp_path / "micro.safetensors", "cpu"))
    first, second = (frame_jpeg(clip, 0, 32) for clip in (1, 9))
    windows = [Window(0, 1, None if one is None else 0.5, one, None) for one in (first, second, None, first)]
    num_encoded = []
    encode = embedder.checkpoint.model.image_embedding

    def counted(images: torch.Tensor) -> torch.Tensor:
        num_encoded.append(len(images))
        return encode(images)

    embedder.checkpoint.model.image_embedding = counted  # type: ignore[method-assign]
    vectors = embedder.embed_frames(windows)
    assert num_encoded == [2]
    assert np.isnan(vectors[2]).all()
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


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
