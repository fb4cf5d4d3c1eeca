"""Proves that the number of processes changes nothing: losses, gradients, order of data, and how a run ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import micro_model, micro_run, write_known_shards
from support.rank_work import (
    MODELS,
    TwoRanks,
    assert_same_gradients,
    command,
    gradients,
    local_contrast,
    rank_gradients,
    rank_initial_model,
    run_of,
    train,
    two_ranks,
)

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import PretrainConfig

# The processes of torchrun import torch first, which takes them seconds.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def ranks() -> Iterator[TwoRanks]:
    with two_ranks() as both:
        yield both


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"))


def run_on(shards: Path, **changes: object) -> PretrainConfig:
    """Three batches of four make an epoch of twelve clips."""
    return micro_run(shards, **({"batch_size": 4, "num_steps": 5} | changes))


def alone(config: PretrainConfig, run_dir: Path, **options: object) -> dict[str, object]:
    outcome: dict[str, object] = train(0, config, run_dir, options)
    return outcome


def batches(outcomes: list[dict[str, list[list[str]]]]) -> list[list[str]]:
    """The global batches that ranks saw the parts of."""
    return [sum(parts, []) for parts in zip(*(outcome["keys"] for outcome in outcomes), strict=True)]  # noqa: RUF017


def logged_steps(run_dir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("changes", [{}, {"micro_batch": 2}, {"activation_checkpointing": True}], ids=str)
def test_two_processes_have_the_gradient_of_one(ranks: TwoRanks, changes: dict[str, object]) -> None:
    configs = [run_of(**model) for model in MODELS]
    first, second = ranks(rank_gradients, [replace(config, **changes) for config in configs])
    for config, one, two in zip(configs, first, second, strict=True):
        whole = gradients(config, Ranks())
        assert_same_gradients(one, whole)
        assert_same_gradients(two, whole)


def test_local_negatives_are_those_of_each_process(ranks: TwoRanks) -> None:
    config = replace(run_of(), negatives="local")
    answers = [*ranks(rank_gradients, [config]), *ranks(rank_gradients, [replace(config, micro_batch=2)])]
    for (losses, _), *_ in answers:
        assert losses["contrastive"] == pytest.approx(local_contrast(config, 2), abs=1e-6)
    assert abs(gradients(run_of(), Ranks())[0]["contrastive"] - local_contrast(config, 2)) > 0.1
    for (other,) in answers[1:]:
        assert_same_gradients(other, answers[0][0])


def test_a_run_of_two_processes_is_the_run_of_one(ranks: TwoRanks, shards: Path, tmp_path: Path) -> None:
    config = run_on(shards, num_steps=3)
    one = alone(config, tmp_path / "one")
    both = ranks(train, config, tmp_path / "both", {})
    assert batches(both) == one["keys"]
    assert [outcome["loss"] for outcome in both] == [pytest.approx(one["loss"], abs=1e-5)] * 2
    # Only the first process calls callbacks and writes.
    assert [outcome["logged"] for outcome in both] == [[1, 2, 3], []]
    assert logged_steps(tmp_path / "both") == [1, 2, 3]
    assert (tmp_path / "both" / "model.safetensors").is_file()
    assert not list((tmp_path / "both").rglob("*.tmp"))


def test_a_run_goes_on_with_more_processes_and_workers_over_the_same_batches(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    config = run_on(shards)
    whole = alone(config, tmp_path / "whole")
    begun = alone(config, tmp_path / "run", signal=(0, 2), number=signal.SIGTERM)
    assert (begun["step"], begun["complete"]) == (2, False)
    with_workers = replace(config, data=replace(config.data, num_workers=1), micro_batch=1)
    resumed = ranks(train, with_workers, tmp_path / "run", {"resume": True})
    assert begun["keys"] + batches(resumed) == whole["keys"]
    assert [(outcome["step"], outcome["complete"]) for outcome in resumed] == [(5, True)] * 2
    assert resumed[0]["loss"] == pytest.approx(whole["loss"], abs=1e-4)


def test_the_first_process_alone_reads_the_initial_weights_and_all_have_them(
    ranks: TwoRanks, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    weights = save_model(CavMaeSync(micro_model()), tmp_path)
    config = replace(run_of(), initial_weights=str(weights))
    stored = load_file(weights)
    for tensors, description in ranks(rank_initial_model, config):
        assert f"copied from {weights}" in description
        assert tensors.keys() == stored.keys()
        assert all(torch.equal(torch.from_numpy(tensors[name]), stored[name]) for name in stored)


def test_weights_that_do_not_fit_end_all(ranks: TwoRanks, shards: Path, tmp_path: Path) -> None:
    config = run_on(shards, initial_weights=str(tmp_path / "gone"))
    outcomes = ranks(train, config, tmp_path / "run", {})
    assert [outcome["error"] for outcome in outcomes] == ["ConfigError", "PeerFailedError"]


def test_two_processes_stream_every_clip_once_an_epoch(ranks: TwoRanks, shards: Path, tmp_path: Path) -> None:
    config = run_on(shards, num_steps=6)
    streamed = replace(
        config, data=replace(config.data, path=f"file://{shards}", source="stream", shuffle_clips=4)
    )
    seen = batches(ranks(train, streamed, tmp_path / "run", {}))
    first, second = sum(seen[:3], []), sum(seen[3:], [])  # noqa: RUF017
    assert sorted(first) == sorted(second) == [f"clip{clip:03d}_00000000" for clip in range(12)]
    assert first != second


def test_two_steps_of_two_processes_and_three_more_equal_five_to_the_bit(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    config = run_on(shards)
    ranks(train, config, tmp_path / "whole", {})
    stopped = ranks(train, config, tmp_path / "run", {"signal": (1, 2), "number": signal.SIGTERM})
    assert [outcome["step"] for outcome in stopped] == [2, 2]
    ranks(train, config, tmp_path / "run", {"resume": True})
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_after_the_same_step(
    ranks: TwoRanks, shards: Path, tmp_path: Path, number: int
) -> None:
    outcomes = ranks(train, run_on(shards), tmp_path / "run", {"signal": (1, 3), "number": number})
    assert [(outcome["step"], outcome["complete"]) for outcome in outcomes] == [(3, False)] * 2
    assert (tmp_path / "run" / "checkpoints" / "last.pt").resolve().name == "step-000003.pt"


def test_a_non_finite_loss_in_one_process_stops_all_and_is_reported_once(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    first, second = ranks(train, run_on(shards), tmp_path / "run", {"poison": (1, 2)})
    assert first["error"] == "NonFiniteError"
    assert re.match(r"Step 2 is not finite: .*reconstruction_audio nan", first["message"])
    assert all(key in first["message"] for key in first["keys"][1] + second["keys"][1])
    assert second["error"] == "PeerFailedError"


def test_a_lost_shard_stops_all_and_is_reported_once(ranks: TwoRanks, tmp_path: Path) -> None:
    shards = write_known_shards(tmp_path / "shards", num_clips=16, clips_per_shard=8)
    outcomes = ranks(train, run_on(shards), tmp_path / "run", {"lose_shards": (1, 1)})
    assert [outcome["error"] for outcome in outcomes] == ["ShardError", "PeerFailedError"]
    assert "is not what was prepared: it is gone" in outcomes[0]["message"]


def test_a_folder_that_is_taken_and_a_batch_that_does_not_divide_end_all(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    outcomes = ranks(train, run_on(shards), tmp_path / "taken", {})
    assert [outcome["error"] for outcome in outcomes] == ["RunError", "PeerFailedError"]
    outcomes = ranks(train, run_on(shards, batch_size=3), tmp_path / "run", {})
    assert [outcome["error"] for outcome in outcomes] == ["ConfigError", "PeerFailedError"]
    assert "batch_size=3 does not divide by 2 processes" in outcomes[0]["message"]
    assert not (tmp_path / "run").exists()


def test_local_negatives_resume_with_as_many_processes_only(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    config = run_on(shards, negatives="local")
    alone(config, tmp_path / "run", signal=(0, 2), number=signal.SIGTERM)
    outcomes = ranks(train, config, tmp_path / "run", {"resume": True})
    assert outcomes[0]["error"] == "RunError"
    assert "was trained by 1 processes, these are 2" in outcomes[0]["message"]


def test_the_command_trains_one_model_and_prints_it_once(
    ranks: TwoRanks, shards: Path, tmp_path: Path
) -> None:
    first, second = ranks(command, [*options(shards, tmp_path), "--steps=2"])
    assert (first["exit_code"], second["exit_code"]) == (0, 0), first["output"] + second["output"]
    assert first["output"].count("Done: 2 steps.") == 1
    assert "Done" not in second["output"]
    assert logged_steps(tmp_path / "run") == [2]


@pytest.mark.slow
def test_torchrun_stops_on_a_signal_with_one_checkpoint_of_both_processes(
    shards: Path, tmp_path: Path
) -> None:
    started = launch(shards, tmp_path, "--steps=100000")
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 2, started)
    started.send_signal(signal.SIGTERM)
    output, errors = started.communicate(timeout=120)
    saved = (tmp_path / "run" / "checkpoints" / "last.pt").resolve()
    assert logged_steps(tmp_path / "run")[-1] == int(saved.stem.removeprefix("step-"))
    assert torch.load(saved, weights_only=True)["num_ranks"] == 2
    assert output.count("Stopped at step") == 1, errors


def options(shards: Path, folder: Path) -> list[str]:
    """Of `cavsync train pretrain`, for a micro model that logs every second step."""
    widths = ("embed_dim=16", "num_heads=2", "encoder_depth=1", "decoder_dim=16", "decoder_num_heads=2")
    sets = [f"--set=model.{size}" for size in ("audio_rows=32", "image_size=32", *widths)]
    sets += ["--set=batch_size=4", "--set=log_every_steps=2"]
    return ["--preset=tiny", "--device=cpu", f"--data={shards}", f"--run={folder / 'run'}", *sets]


def launch(shards: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`cavsync train pretrain` in two processes, as the documentation says."""
    commands = Path(sys.executable).parent
    launcher = [commands / "torchrun", "--standalone", "--nproc-per-node=2", "--no-python", "--"]
    job = [commands / "cavsync", "train", "pretrain", *options(shards, folder)]
    return subprocess.Popen(
        [*launcher, *job, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"},
    )


def wait_for(condition: object, started: subprocess.Popen[str]) -> None:
    until_s = time.monotonic() + 150
    while not condition():  # type: ignore[operator]
        assert started.poll() is None, started.stderr.read()
        assert time.monotonic() < until_s
        time.sleep(0.2)
