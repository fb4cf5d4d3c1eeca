"""Proves the loop: it learns, a stopped run continues to the same bits, and errors name their cause."""

import errno
import json
import os
import re
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import micro_model, micro_run, write_known_shards
from support.runs import wait_for
from support.trainings import Calls
from torch import nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.checkpoints.files.checkpoint_file import read_checkpoint_file
from cavsync.train.data.config import DataConfig, SourceKind
from cavsync.train.data.index.checks import ShardError
from cavsync.train.data.sampler import TooFewClipsError
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.device import DeviceError, choose_device
from cavsync.train.engine.metrics import RunFacts, RunResult, StepMetrics
from cavsync.train.engine.run_folder import RunError, explaining_failed_write
from cavsync.train.engine.saving.checkpoints import Checkpoints, ResumeError
from cavsync.train.engine.signals import StopRequest
from cavsync.train.engine.step import NonFiniteError, OutOfMemoryError
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.trainer import pretrain


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=6)


def stop_after(step: int, number: int = signal.SIGTERM) -> Callable[[StepMetrics], None]:
    """Sends this process a signal once `step` steps are done."""
    return lambda metrics: os.kill(os.getpid(), number) if metrics.step == step else None


def final_state(result: RunResult) -> dict[str, object]:
    state: dict[str, object] = torch.load(result.checkpoint, weights_only=True)
    return state


def assert_same(one: object, two: object) -> None:
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            assert_same(one[name], two[name])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_same(first, second)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


def test_two_steps_and_two_more_equal_four(shards: Path, tmp_path: Path) -> None:
    # Three batches are an epoch: the run stops within the first and ends in the second.
    config = micro_run(shards)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    stopped = pretrain(config, tmp_path / "parts", device="cpu", callbacks=[Calls(on_step=stop_after(2))])
    assert (stopped.step, stopped.complete, stopped.weights) == (2, False, None)
    resumed = pretrain(config, tmp_path / "parts", device="cpu", resume=True)
    assert (resumed.step, resumed.complete) == (4, True)
    assert_same(final_state(resumed), final_state(whole))
    assert_same(load_file(resumed.weights), load_file(whole.weights))


def test_a_run_resumes_with_other_workers_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    pretrain(config, tmp_path / "parts", device="cpu", callbacks=[Calls(on_step=stop_after(1))])
    two_workers = replace(config, data=replace(config.data, num_workers=2))
    resumed = pretrain(two_workers, tmp_path / "parts", device="cpu", resume=True)
    assert_same(load_file(resumed.weights), load_file(whole.weights))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run_and_handlers_come_back(
    shards: Path, tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)
    result = pretrain(
        micro_run(shards), tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop_after(3, number))]
    )
    assert result.checkpoint.name == "step-000003.pt"
    assert final_state(result)["step"] == 3
    assert signal.getsignal(number) is before


def test_steps_of_a_killed_run_after_its_checkpoint_are_dropped(shards: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(metrics: StepMetrics) -> None:
        if metrics.step == 4:
            raise KilledError

    config = micro_run(shards, checkpoint_every_steps=2)
    with pytest.raises(KilledError):
        pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=kill)])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')
    (tmp_path / "run" / "checkpoints" / ".step-000004.pt.half.tmp").write_bytes(b"half")
    resumed = pretrain(config, tmp_path / "run", device="cpu", resume=True)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    assert_same(load_file(resumed.weights), load_file(whole.weights))
    assert logged_steps(tmp_path / "run") == [1, 2, 3, 4]
    assert not list((tmp_path / "run" / "checkpoints").glob("*.tmp"))


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(
    shards: Path, tmp_path: Path
) -> None:
    config = micro_run(shards)
    with pytest.raises(ZeroDivisionError):
        pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=lambda metrics: 1 / 0)])
    resumed = pretrain(config, tmp_path / "run", device="cpu", resume=True)
    assert logged_steps(tmp_path / "run") == [1, 2, 3, 4]
    assert resumed.complete


def test_resuming_a_complete_run_changes_nothing(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards)
    weights = load_file(pretrain(config, tmp_path / "run", device="cpu").weights)
    again = pretrain(config, tmp_path / "run", device="cpu", resume=True)
    assert (again.complete, again.last) == (True, None)
    assert_same(load_file(again.weights), weights)


def test_training_lowers_the_loss(shards: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    plain = DataConfig(path=str(shards))
    config = micro_run(shards, data=plain, num_steps=60, batch_size=6, log_every_steps=20)
    pretrain(
        config,
        tmp_path / "run",
        device="cpu",
        callbacks=[Calls(on_step=lambda metrics: losses.append(metrics.losses.loss))],
    )
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_the_run_folder_records_what_ran(shards: Path, tmp_path: Path) -> None:
    facts: list[RunFacts] = []
    result = pretrain(
        micro_run(shards), tmp_path / "run", device="cpu", callbacks=[Calls(on_start=facts.append)]
    )
    assert (facts[0].num_clips, facts[0].num_steps, facts[0].stored_frame) == (6, 4, (32, 32))
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["preset"] == "micro"
    # Left to the dataset by the configuration, stored as what they were.
    assert (stored["data"]["mel_mean"], stored["data"]["mel_std"]) == (-5.0, 4.0)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    parts = ("loss", "reconstruction_audio", "reconstruction_image", "contrastive", "accuracy", "grad_norm")
    speeds = ("lr", "epoch", "clips_per_s", "data_wait_fraction", "checkpoint_stall_s", "seconds")
    assert {*parts, *speeds, "step"} == last.keys()
    assert last["step"] == result.step == 4
    assert last["epoch"] == pytest.approx(4 / 3)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").resolve() == result.checkpoint.resolve()


def test_checkpoint_and_weights_load_as_the_same_model(shards: Path, tmp_path: Path) -> None:
    result = pretrain(micro_run(shards), tmp_path / "run", device="cpu")
    from_checkpoint, published = load_model(result.checkpoint), load_model(result.weights)
    assert from_checkpoint.config == published.config == micro_model()
    assert_same(dict(from_checkpoint.state_dict()), dict(published.state_dict()))
    assert load_file(result.weights).keys() == published.state_dict().keys()


def test_the_weights_hold_how_they_were_trained(shards: Path, tmp_path: Path) -> None:
    result = pretrain(micro_run(shards), tmp_path / "run", device="cpu")
    training = read_checkpoint_file(result.weights).training
    assert (training["step"], training["config"]["preset"], training["config"]["batch_size"]) == (
        4,
        "micro",
        2,
    )
    config = tmp_path / "run" / "config.json"
    # Weights have the permissions of the configuration.
    assert result.weights.stat().st_mode == config.stat().st_mode


def test_only_the_newest_checkpoints_stay(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards, checkpoint_every_steps=1, keep_checkpoints=2)
    pretrain(config, tmp_path / "run", device="cpu")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last.pt", "step-000003.pt", "step-000004.pt"]


def test_training_starts_from_given_weights(shards: Path, tmp_path: Path) -> None:
    first = pretrain(micro_run(shards), tmp_path / "first", device="cpu")
    still = micro_run(shards, initial_weights=str(first.weights), num_steps=1)
    still = replace(still, optimizer=replace(still.optimizer, lr=1e-30, weight_decay=0.0))
    second = pretrain(still, tmp_path / "second", device="cpu")
    assert_same(load_file(second.weights), load_file(first.weights))


def test_given_weights_of_another_model_are_refused(shards: Path, tmp_path: Path) -> None:
    first = pretrain(micro_run(shards), tmp_path / "first", device="cpu")
    other = micro_run(shards, model=micro_model(num_heads=4), initial_weights=str(first.weights))
    with pytest.raises(
        ConfigError, match=r"initial_weights: .* has num_heads=2, and the model to train has num_heads=4"
    ):
        pretrain(other, tmp_path / "second", device="cpu")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_the_same_loss_and_keeps_float32_weights(
    shards: Path, tmp_path: Path, precision: str
) -> None:
    config = micro_run(shards, num_steps=1)
    full = pretrain(config, tmp_path / "full", device="cpu")
    half = pretrain(replace(config, precision=precision), tmp_path / "half", device="cpu")
    assert half.last.losses.loss != full.last.losses.loss
    assert half.last.losses.loss == pytest.approx(full.last.losses.loss, rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in load_file(half.weights).values())


def test_gradients_are_clipped_and_their_norm_is_logged(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards, num_steps=1)
    clipped = replace(config, optimizer=replace(config.optimizer, clip_grad_norm=1e-3))
    one = pretrain(config, tmp_path / "one", device="cpu")
    two = pretrain(clipped, tmp_path / "two", device="cpu")
    assert one.last.losses.grad_norm == two.last.losses.grad_norm > 0.1
    first_moment = [state["exp_avg"].norm() for state in final_state(two)["optimizer"]["state"].values()]
    assert torch.stack(first_moment).norm() == pytest.approx(1e-3 * (1 - 0.9), rel=1e-3)


def test_a_taken_folder_is_refused_and_left_alone(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(
        RunError, match="exists and is not overwritten: continue that run with --resume, or give"
    ):
        pretrain(micro_run(shards), tmp_path / "run", device="cpu")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_resuming_nothing_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run to resume: config\.json is not there"):
        pretrain(micro_run(shards), tmp_path / "run", device="cpu", resume=True)


def test_resuming_with_another_configuration_names_the_fields(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards)
    pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop_after(1))])
    other = replace(config, batch_size=3, optimizer=replace(config.optimizer, lr=1.0))
    with pytest.raises(
        RunError, match=r"batch_size was 2, now 3; optimizer\.lr was 0\.01, now 1\.0\. Resume"
    ):
        pretrain(other, tmp_path / "run", device="cpu", resume=True)


@pytest.mark.parametrize("source", ["index", "stream"])
def test_clips_with_longer_gaps_are_not_trained_on_and_counted(tmp_path: Path, source: SourceKind) -> None:
    shards = write_known_shards(tmp_path / "shards", num_clips=6, audio_gaps_s={1: [(0.0, 1.0)]})
    config = micro_run(shards, num_steps=None, num_epochs=2)
    config = replace(config, data=replace(config.data, max_gap_s=0.5, source=source))
    facts: list[RunFacts] = []
    pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_start=facts.append)])
    assert (facts[0].num_clips, facts[0].num_left_out, facts[0].num_steps) == (5, 1, 4)
    other = replace(config, data=replace(config.data, max_gap_s=None))
    with pytest.raises(RunError, match=r"data\.max_gap_s was 0\.5, now None"):
        pretrain(other, tmp_path / "run", device="cpu", resume=True)


def test_resuming_on_other_clips_is_refused(shards: Path, tmp_path: Path) -> None:
    config = micro_run(shards)
    pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop_after(1))])
    more = write_known_shards(tmp_path / "more", num_clips=8)
    moved = replace(config, data=replace(config.data, path=str(more)))
    with pytest.raises(RunError, match=r"has 8 clips, and they are not those that .* was trained on"):
        pretrain(moved, tmp_path / "run", device="cpu", resume=True)


@pytest.mark.parametrize("damage", ["cut", "a flipped bit"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    config = micro_run(shards, checkpoint_every_steps=1)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    result = pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop_after(2))])
    content = bytearray(result.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    result.checkpoint.write_bytes(content[:1000] if damage == "cut" else content)

    facts: list[RunFacts] = []
    resumed = pretrain(
        config, tmp_path / "run", device="cpu", resume=True, callbacks=[Calls(on_start=facts.append)]
    )
    assert facts[0].steps_done == 1
    (message,) = caplog.messages
    assert re.search(
        r"step-000002\.pt is damaged \(.+\): .* step-000002\.damaged, .*step-000001\.pt is used", message
    )
    assert_same(load_file(resumed.weights), load_file(whole.weights))
    assert (result.checkpoint.parent / "step-000002.damaged").stat().st_size in (1000, len(content))


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(shards: Path, tmp_path: Path) -> None:
    result = pretrain(
        micro_run(shards), tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop_after(2))]
    )
    result.checkpoint.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(
            ResumeError, match=r"No checkpoint in .* is whole, step-000002\.pt is not: File is"
        ):
            pretrain(micro_run(shards), tmp_path / "run", device="cpu", resume=True)


def test_a_file_that_is_no_training_checkpoint_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(3)}, other)
    with pytest.raises(ResumeError, match=r"other\.pt is no checkpoint of a cavsync run: it holds weights"):
        Checkpoints(tmp_path).load(other)


def test_a_full_disk_keeps_the_checkpoint_before_it(shards: Path, tmp_path: Path) -> None:
    # A limit on the size of files ends a write in the middle, as a full disk does.
    config = micro_run(shards, checkpoint_every_steps=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    first = Checkpoints(tmp_path / "run").path(1)

    def fill_disk(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            wait_for(first.is_file)  # it is written while the second step is done
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    message = r"step-000002\.pt cannot be written .*GB free\. step-000001\.pt, before it, is whole: make room"
    try:
        with pytest.raises(ResumeError, match=message):
            pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=fill_disk)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last.pt", "step-000001.pt"]
    resumed = pretrain(config, tmp_path / "run", device="cpu", resume=True)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    assert_same(load_file(resumed.weights), load_file(whole.weights))


def test_metrics_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written: .*No space left.*--resume"):  # noqa: SIM117
        with explaining_failed_write(tmp_path / "metrics.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_error_for_a_step_out_of_memory_names_the_options(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*inputs: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(CavMaeSync, "forward", too_large)
    message = r"Step 1 does not fit into the memory of cpu: batch_size=6, 6 of it .*micro_batch=None.*micro_batch=3 "
    with pytest.raises(OutOfMemoryError, match=message):
        pretrain(micro_run(shards, batch_size=6), tmp_path / "run", device="cpu")


def test_a_second_signal_kills_unless_it_is_an_echo_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        now_s[0] = 60.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch": 4}, "micro_batch=4 does not divide the 6 clips of batch_size=6"),
        ({"micro_batch": 0}, "micro_batch=0 must be at least 1"),
        (
            {"data": {"source": "stream", "pairing": "other-clip"}},
            "source='stream' with pairing='other-clip'",
        ),
        (
            {"data": {"source": "stream", "check_crc": True}},
            "source='stream' with .*check_crc=True contradict",
        ),
        ({"data": {"shuffle_clips": 0}}, "shuffle_clips=0 must be at least 1"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        micro_run(Path(), batch_size=6, **changes | {"data": DataConfig(**changes.get("data", {}))})


def test_a_batch_that_does_not_divide_by_the_processes_names_those_that_do() -> None:
    config = micro_run(Path(), batch_size=10)
    with pytest.raises(
        ConfigError, match=r"batch_size=10 does not divide by 4 processes; the nearest .* 8 and 12"
    ):
        config.batch_of_a_rank(4)
    with pytest.raises(
        ConfigError, match=r"micro_batch=5 does not divide the 2 clips .* each of 5 processes"
    ):
        replace(config, micro_batch=5).batch_of_a_rank(5)


def test_compiling_and_recomputing_activations_change_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compiler's front half alone: generating code would take the test minutes.
    monkeypatch.setattr(CavMaeSync, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    config = micro_run(shards, num_steps=2)
    plain = pretrain(config, tmp_path / "plain", device="cpu")
    for changes in ({"activation_checkpointing": True}, {"compile": True}):
        other = pretrain(replace(config, **changes), tmp_path / str(changes), device="cpu")
        assert other.last.losses.loss == pytest.approx(plain.last.losses.loss, rel=1e-5)
        assert other.last.losses.grad_norm == pytest.approx(plain.last.losses.grad_norm, rel=1e-4)
        for name, tensor in load_file(plain.weights).items():
            torch.testing.assert_close(load_file(other.weights)[name], tensor, atol=1e-5, rtol=1e-4)


def test_callbacks_see_each_step_and_the_end(shards: Path, tmp_path: Path) -> None:
    seen: list[object] = []

    class Recorder(TrainerCallback):
        def on_train_begin(self, facts: RunFacts, config: PretrainConfig, model: CavMaeSync) -> None:
            seen.append((facts.initial_weights, config.data.mel_mean, model.training))

        def on_step_end(self, metrics: StepMetrics, model: CavMaeSync, batch: Mapping[str, Any]) -> None:
            seen.append((metrics.step, len(batch["key"]), tuple(batch["image"].shape)))

        def on_train_end(self, result: RunResult, model: CavMaeSync) -> None:
            seen.append(result.weights.is_file())

    pretrain(micro_run(shards, num_steps=2), tmp_path / "run", device="cpu", callbacks=[Recorder()])
    shape = (2, 32, 32, 3)
    assert seen == [("random weights of seed 0", -5.0, True), (1, 2, shape), (2, 2, shape), True]


def test_a_non_finite_loss_stops_with_step_clips_and_parts(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = CavMaeSync.forward

    def poisoned(model: CavMaeSync, audio: torch.Tensor, *rest: torch.Tensor) -> object:
        return forward(model, audio * float("nan") if poisoned.calls == 2 else audio, *rest)

    def counted(*inputs: torch.Tensor) -> object:
        poisoned.calls += 1
        return poisoned(*inputs)

    poisoned.calls = 0
    monkeypatch.setattr(CavMaeSync, "forward", counted)
    config = micro_run(shards, checkpoint_every_steps=1)
    message = (
        r"Step 2 is not finite: loss nan, reconstruction_audio nan, .* clips: clip00\d_00000000, clip00\d_"
    )
    with pytest.raises(NonFiniteError, match=message):
        pretrain(config, tmp_path / "run", device="cpu")
    newest = Checkpoints(tmp_path / "run").newest()
    assert newest.name == "step-000001.pt"
    # A batch of 512 has more clips than a message.
    kept = json.loads((tmp_path / "run" / "not-finite.json").read_text())["clips"]
    assert len(kept) == config.batch_size
    assert all(tensor.isfinite().all() for tensor in load_model(newest).state_dict().values())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_lost_during_a_run_is_named_in_one_line(tmp_path: Path, num_workers: int) -> None:
    path = write_known_shards(tmp_path / "shards", num_clips=6)
    config = micro_run(path, data=DataConfig(path=str(path), num_workers=num_workers))
    tars = list((path / "shards").glob("*.tar"))
    with pytest.raises(ShardError, match=r"\A\S+\.tar is not what was prepared: it is gone.*") as error:
        pretrain(
            config,
            tmp_path / "run",
            device="cpu",
            callbacks=[Calls(on_start=lambda facts: [tar.unlink() for tar in tars])],
        )
    assert "\n" not in str(error.value)


def test_a_dataset_smaller_than_a_batch_makes_no_folder(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(TooFewClipsError, match="6 clips do not fill one batch of 7"):
        pretrain(micro_run(shards, batch_size=7), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"no usable CUDA device here\. Use --device cpu"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="There is no device 'tpu'; there are: auto, cpu, cuda"):
        choose_device("tpu")


def test_epochs_give_the_steps_of_whole_batches(shards: Path) -> None:
    config: PretrainConfig = micro_run(shards, num_steps=None, num_epochs=5)
    assert config.total_steps(num_clips=7) == 5 * 3


def logged_steps(run_dir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
