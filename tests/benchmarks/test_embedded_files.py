"""Proves that `make gpu` measures the embedding of video files with their decoding, in decoders beside the model."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import files, record
from benchmarks.gpu.section import TOY, Section
from cavsync.model.cavmae_sync import CavMaeSync


def test_a_file_is_decoded_and_embedded_as_often_as_there_are_decoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(files, "FULL", files.TOY)
    section = Section(tmp_path, torch.device("cpu"), True, record.Record(tmp_path, "inference", 100))
    files.embed_files(section, CavMaeSync(TOY).eval(), ["float32"])
    (found,) = record.read(tmp_path / "inference.json")
    assert found.what == "embed with decoding, float32"
    assert found.unit == "x real time"
    assert found.note.startswith("2 files of 2 s, 96 x 64, by as many decoders on 2 cores; ")
    assert found.value is not None
    assert found.value > 0
