"""Proves that a training never waits for a batch that cannot come: too little shared memory, or a process that ended."""

import ctypes
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.documents.pages import ROOT
from support.known_shards import micro_model, raw_data, write_known_shards

from cavsync.train.data.loader import iterate_batches, load_batches
from cavsync.train.data.pair_rule import PairRule, SampleIndex
from cavsync.train.data.pairs import ClipPairs
from cavsync.train.engine.overlap.loader_processes import (
    HandedOver,
    LoaderProcessError,
    batches_ahead,
    tensor_bytes,
)
from cavsync.train.pretrain.presets import preset

CPU = torch.device("cpu")
# A batch of sync-base, 512 clips.
BATCH_BYTES = 132_500_000
CLONE_NEWNS = 0x20000  # of linux/sched.h


class Unknown(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"audio": torch.zeros(number + 1, 250_000)}


def attempt(batches: Iterable[Any]) -> dict[str, Any]:
    began_s = time.monotonic()
    try:
        return {"batches": sum(1 for _ in batches)}
    except LoaderProcessError as error:
        return {"error": str(error), "seconds": time.monotonic() - began_s}


def starved() -> list[dict[str, Any]]:
    """In a private /dev/shm of 3 MiB: batches of 1 MB that are refused before the start, some that fit, and some of which
    nothing was known. None but this process, and those that it starts, see that /dev/shm."""
    warnings.simplefilter("ignore")
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        raise OSError("a file system of its own needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", "/dev/shm"], check=True)

    def make(numbers: list[int]) -> dict[str, torch.Tensor]:
        return {"audio": torch.zeros(len(numbers), 250_000)}

    return [
        attempt(load_batches(make, [[1]] * 6, 4, CPU)),
        attempt(load_batches(make, [[1]] * 6, 1, CPU)),
        attempt(iterate_batches(Unknown(), 1, CPU, 0)),
    ]


def test_batches_are_made_ahead_as_far_as_they_fit() -> None:
    sync_base = HandedOver(BATCH_BYTES, num_workers=8)
    # 8 processes with 2 batches each, and 2 that were taken.
    assert sync_base.bytes_at_once(2) == 18 * BATCH_BYTES
    assert [sync_base.ahead(free) for free in (18 * BATCH_BYTES, 18 * BATCH_BYTES - 1, 10 * BATCH_BYTES)] == [
        2,
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("num_ranks", "free", "way_out"),
    [
        (1, 10**9, "or load with fewer processes: --num-workers 5."),
        (1, 64 * 2**20, "or load with fewer processes: --num-workers 0, which needs none."),
        (8, 8 * 10**9, "or load with fewer processes: --num-workers 5."),
    ],
)
def test_too_little_shared_memory_is_refused_with_what_is_needed(
    num_ranks: int, free: int, way_out: str
) -> None:
    with pytest.raises(LoaderProcessError) as caught:
        HandedOver(BATCH_BYTES, num_workers=8, num_ranks=num_ranks).ahead(free)
    message = str(caught.value)
    assert f"need {1325 * num_ranks:,} MB, better {2385 * num_ranks:,} MB, for batches of 132 MB" in message
    assert f"/dev/shm has {free / 1e6:,.0f} MB free" in message
    assert "docker run --ipc=host, or --shm-size=" in message
    assert message.endswith(way_out)


def test_processes_of_all_ranks_on_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    room = os.statvfs("/dev/shm")
    most = room.f_bavail * room.f_frsize // 5
    assert batches_ahead(most, 0) is None
    assert batches_ahead(most, 1) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(LoaderProcessError):
        batches_ahead(most, 1)


def test_the_size_of_a_batch_is_known_before_it_is_made(tmp_path: Path) -> None:
    shards = write_known_shards(tmp_path, num_clips=3)
    for noise, audio_noise in product((False, True), repeat=2):
        data = raw_data(shards, audio_noise=audio_noise)
        clips = ClipPairs(data, micro_model(), 0, contrast_noise=noise)
        batch = clips.batch([SampleIndex(0, clip) for clip in (2, 0, 1)])
        assert clips.rule.bytes_of(3) == tensor_bytes(batch)


def test_the_compose_file_has_room_for_the_recipe() -> None:
    config = preset("sync-base")
    rule = PairRule(replace(config.data, pad_value=0.0), config.model, 0, contrast_noise=False)
    assert rule.bytes_of(config.batch_size) == pytest.approx(BATCH_BYTES, rel=0.001)
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    needed = HandedOver(rule.bytes_of(config.batch_size), config.data.num_workers).bytes_at_once(2)
    assert {service["shm_size"] for service in services.values()} == {f"{-(-needed // 2**30)}gb"}
    assert f"needs {needed / 1e9:.1f} GB, or" in (ROOT / "docs" / "training.md").read_text()


def test_a_private_shared_memory_that_is_too_small_ends_the_loading_at_once() -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    # A copy of this process, since another would import torch for seconds.
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        refused, fitting, lost = pool.submit(starved).result()
    assert "Shared memory: 4 processes" in refused["error"]
    assert fitting == {"batches": 6}
    assert "A process that loads data ended: unable to " in lost["error"]
    assert lost["seconds"] < 30


def test_a_process_that_is_killed_ends_the_loading_with_its_signal() -> None:
    def make(numbers: list[int]) -> dict[str, torch.Tensor]:
        if numbers == [3]:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"audio": torch.zeros(1)}

    began_s = time.monotonic()
    with pytest.raises(
        LoaderProcessError, match=r"ended: DataLoader worker .* killed by signal: Killed.* --resume"
    ):
        for _ in load_batches(make, [[1], [2], [3], [4]], 1, CPU):
            pass
    assert time.monotonic() - began_s < 30
