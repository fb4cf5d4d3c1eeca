"""Proves that the monitor of a run writes validation, events and curves, and changes nothing of the training."""

import errno
import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.known_shards import micro_model, micro_run, raw_data
from support.labelled_shards import NUM_TEST, write_labelled_shards
from support.trainings import Calls
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.sampling import spread
from cavsync.train.data.sampler import TooFewClipsError
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.metrics import StepMetrics, ValidationMetrics
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.finetune.plots import class_curves
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig
from cavsync.train.pretrain.estimate import estimate
from cavsync.train.pretrain.held_out import HeldOutClips, effective_rank
from cavsync.train.pretrain.plots import draw_reconstructions, run_curves
from cavsync.train.pretrain.trainer import pretrain

CPU = torch.device("cpu")
OFF = PretrainMonitorConfig(tracker=None, every_steps=None, curves=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("shards"))


def monitored(shards: Path, **changes: object) -> PretrainConfig:
    """Four steps with a validation after every second; images take longer than all of it."""
    return micro_run(
        shards,
        monitor=PretrainMonitorConfig(**({"every_steps": 2, "num_images": 0, "curves": False} | changes)),
    )


def validations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]


def test_a_monitored_run_ends_with_the_same_bits(shards: Path, tmp_path: Path) -> None:
    config = monitored(shards)
    alone = pretrain(replace(config, monitor=OFF), tmp_path / "alone", device="cpu")
    seen = pretrain(config, tmp_path / "seen", device="cpu")
    assert validations(tmp_path / "seen")
    tensors = load_file(alone.weights)
    assert all(torch.equal(tensors[name], other) for name, other in load_file(seen.weights).items())
    assert torch.equal(*(torch.load(run.checkpoint, weights_only=True)["rng"] for run in (seen, alone)))


def test_a_monitored_run_leaves_validation_reconstructions_events_and_curves(
    shards: Path, tmp_path: Path
) -> None:
    pretrain(monitored(shards, num_images=1, curves=True), tmp_path / "run", device="cpu")
    found = validations(tmp_path / "run")
    assert [one["step"] for one in found] == [2, 4]
    assert {one["num_clips"] for one in found} == {NUM_TEST}
    assert all(0 <= one["r1_audio_to_video"] <= 1 <= one["effective_rank_audio"] <= 16 for one in found)
    drawn = sorted(path.name for path in (tmp_path / "run" / "reconstructions").iterdir())
    assert drawn == ["step-000002.png", "step-000004.png"]
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert curves.size[0] > 1000
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "train/grad_norm", "validation/effective_rank_image"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert sorted(events.Tags()["images"]) == ["curves", "reconstructions"]
    assert [event.step for event in events.Scalars("final/effective_rank_image")] == [4]


def test_validations_after_the_newest_checkpoint_of_a_killed_run_are_dropped(
    shards: Path, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(metrics: StepMetrics) -> None:
        if metrics.step == 4:
            raise KilledError

    config = replace(monitored(shards, every_steps=1), checkpoint_every_steps=3)
    with pytest.raises(KilledError):
        pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=kill)])
    with (tmp_path / "run" / "validation.jsonl").open("a") as file:
        file.write('{"step": 4}\n{"step": 5, "num')
    pretrain(config, tmp_path / "run", device="cpu", resume=True)
    assert [one["step"] for one in validations(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_run_that_a_signal_stops_is_saved_before_it_is_validated(shards: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000002.pt"
    saved: list[bool] = []

    class Stop(TrainerCallback):
        def on_step_end(self, metrics: StepMetrics, model: CavMaeSync, batch: object) -> None:
            if metrics.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_validation(self, metrics: ValidationMetrics) -> None:
            saved.append(checkpoint.is_file())

    result = pretrain(monitored(shards), tmp_path / "run", device="cpu", callbacks=[Stop()])
    assert (result.step, saved) == (2, [True])


def test_a_complete_run_that_resumes_validates_its_end_once(shards: Path, tmp_path: Path) -> None:
    pretrain(monitored(shards), tmp_path / "run", device="cpu")
    before = validations(tmp_path / "run")
    pretrain(monitored(shards), tmp_path / "run", device="cpu", resume=True)
    assert validations(tmp_path / "run") == before


def test_a_run_may_be_monitored_otherwise_when_it_resumes(shards: Path, tmp_path: Path) -> None:
    pretrain(monitored(shards), tmp_path / "run", device="cpu")
    other = monitored(shards, max_clips=3)
    assert pretrain(other, tmp_path / "run", device="cpu", resume=True).complete


def test_a_dataset_without_held_out_clips_is_trained_on_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = write_labelled_shards(tmp_path / "shards")
    config = monitored(shards, split="eval", curves=True)
    with caplog.at_level(logging.WARNING):
        pretrain(config, tmp_path / "run", device="cpu")
    assert "No validation on held-out clips: " in caplog.text
    assert "has no split 'eval'" in caplog.text
    assert not (tmp_path / "run" / "validation.jsonl").exists()
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_disk_without_room_for_images_does_not_end_a_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cavsync.train.engine.callbacks.write_atomically", full)
    modes: list[bool] = []

    class Mode(TrainerCallback):
        def on_step_end(self, metrics: StepMetrics, model: CavMaeSync, batch: object) -> None:
            modes.append(model.training)

    config = monitored(shards, num_images=1, curves=True)
    result = pretrain(config, tmp_path / "run", device="cpu", callbacks=[Mode()])
    assert result.complete
    assert all(modes)
    assert validations(tmp_path / "run")
    messages = [record.getMessage() for record in caplog.records]
    assert messages[-1].startswith("The monitor cannot write at the end of the run: [Errno 28] No space left")


def test_the_monitor_can_be_switched_off(shards: Path, tmp_path: Path) -> None:
    pretrain(micro_run(shards, monitor=OFF), tmp_path / "run", device="cpu")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "metrics.jsonl", "checkpoints", "model.safetensors"}


def test_effective_rank_counts_directions() -> None:
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.ones(9, 6)) == pytest.approx(1)
    assert effective_rank(torch.eye(6)[[0, 1, 0, 1]] * torch.tensor([[1.0], [5], [2], [3]])) == pytest.approx(
        2
    )
    # Two of three vectors agree: singular values √2 and 1.
    fractions = torch.tensor([2**0.5, 1.0]) / (2**0.5 + 1)
    entropy = -(fractions * fractions.log()).sum()
    assert effective_rank(torch.eye(2)[[0, 0, 1]]) == pytest.approx(entropy.exp().item())


def test_held_out_clips_are_spread_over_the_split() -> None:
    assert spread(4, 200).tolist() == [0, 1, 2, 3]
    assert spread(16, 4).tolist() == [2, 6, 10, 14]
    assert spread(16, 1).tolist() == [8]


class Twin(CavMaeSync):
    """Embeds audio and image by the clip number in the known shards."""

    def audio_embedding(self, audio: Tensor, kept: Tensor | None = None) -> Tensor:
        return torch.nn.functional.one_hot(audio[:, 0, 0].long(), 16).float()

    def image_embedding(self, image: Tensor, kept: Tensor | None = None) -> Tensor:
        # Red is the clip, in steps of 12; upstream's mean and deviation are undone.
        clip = ((image[:, 0].mean(dim=(1, 2)) * 0.229 + 0.485) * 255 / 12).round().long()
        return torch.nn.functional.one_hot(clip, 16).float()


def test_a_model_that_knows_every_clip_finds_every_clip(shards: Path) -> None:
    clips = HeldOutClips(raw_data(shards), micro_model(), PretrainMonitorConfig())
    found = clips.score(Twin(micro_model()), CPU)
    assert (found.num_clips, found.r1_audio_to_video, found.r1_video_to_audio) == (NUM_TEST, 1.0, 1.0)
    assert found.effective_rank_audio == pytest.approx(NUM_TEST)


def test_reconstructions_keep_the_visible_patches_in_the_units_of_the_input(shards: Path) -> None:
    clips = HeldOutClips(raw_data(shards), micro_model(), PretrainMonitorConfig(num_images=2))
    torch.manual_seed(0)
    model = CavMaeSync(micro_model()).eval()
    one, same = clips.reconstruct(model, CPU), clips.reconstruct(model, CPU)
    assert torch.equal(one.filled.removed_audio, same.filled.removed_audio)
    kept = ~one.filled.removed_audio
    assert kept.float().mean() == pytest.approx(0.25)
    assert torch.equal(one.filled.audio[kept], one.audio[kept])
    whole = ~one.filled.removed_image.unsqueeze(1).expand_as(one.image)
    assert torch.equal(one.filled.image[whole], one.image[whole])
    assert not torch.equal(one.filled.image, one.image)
    assert draw_reconstructions(one)[:4] == b"\x89PNG"


def test_curves_are_drawn_with_and_without_validation() -> None:
    steps = {
        "step": [1, 2],
        "loss": [2.0, 1.0],
        "lr": [0.1, 0.2],
        "grad_norm": [3.0, 4.0],
        "accuracy": [0.1, 0.2],
    }
    parts = {"reconstruction_audio": [1, 2], "reconstruction_image": [1, 2], "contrastive": [1, 2]}
    metrics = pd.DataFrame(steps | parts)
    assert run_curves(metrics, pd.DataFrame())[:4] == b"\x89PNG"
    assert class_curves(metrics, pd.DataFrame())[:4] == b"\x89PNG"
    scored = pd.DataFrame({"step": [2], "top1": [0.5], "mean_average_precision": [0.4]})
    assert class_curves(metrics, scored) != class_curves(metrics, pd.DataFrame())


def test_an_estimate_scales_a_few_steps_to_the_run(shards: Path) -> None:
    config = micro_run(shards, num_steps=1000)
    estimated = estimate(config, CPU)
    assert (estimated.clips_a_step, estimated.steps_measured) == (2, 2)
    assert estimated.seconds == pytest.approx(1000 * 2 / estimated.clips_per_s)
    with pytest.raises(TooFewClipsError, match="8 clips do not fill one batch of 9"):
        estimate(replace(config, batch_size=9), CPU)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("monitor.every_steps=0", "monitor.every_steps=0 must be at least 1; none never validates"),
        ("monitor.max_clips=1", "R@1 among one clip says nothing"),
        ("monitor.num_frames=0", "monitor.num_frames=0 must be at least 1"),
        ("monitor.num_images=-1", "monitor.num_images=-1 is negative; 0 draws none"),
    ],
)
def test_a_monitor_that_cannot_work_is_refused(shards: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(micro_run(shards), [assignment])
