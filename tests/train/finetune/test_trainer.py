"""Proves that classes are learned: by whole models and by probes, resumable to the bit, and with clear refusals."""

import errno
import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import micro_model, write_known_shards
from support.labelled_shards import (
    NUM_TEST,
    NUM_TRAIN,
    micro_finetuning,
    micro_probe,
    pretrained,
    write_labelled_shards,
)
from support.trainings import Calls

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.classifier import CavMaeClassifier
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.config import DataConfig
from cavsync.train.data.index.checks import ShardError
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.data.labelled.clips import LabelledClips
from cavsync.train.data.labelled.labels import task_of
from cavsync.train.data.sampler import EpochBatchSampler, Epochs, EpochSample, class_weights
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.metrics import RunFacts, StepMetrics
from cavsync.train.engine.optimizer import WeightAverage
from cavsync.train.engine.run_folder import RunError
from cavsync.train.engine.step import NonFiniteError, OutOfMemoryError
from cavsync.train.evaluation.classification.predict import class_probabilities
from cavsync.train.finetune.augment import hide_bands, mix_images, mix_mels, smoothed
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.initial import InitialWeights
from cavsync.train.finetune.items import TrainingClips
from cavsync.train.finetune.metrics import FinetuneResult
from cavsync.train.finetune.objective import class_loss, finetune_step
from cavsync.train.finetune.presets import FINETUNE_PRESETS, finetune_preset
from cavsync.train.finetune.trainer import finetune

Recipe = Callable[..., FinetuneConfig]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("pretrained"))


def run(config: FinetuneConfig, folder: Path, *, stop_after: int = 0, resume: bool = False) -> FinetuneResult:
    """Runs on the CPU; a SIGTERM comes once `stop_after` steps are done."""

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    return finetune(config, folder, device="cpu", resume=resume, callbacks=[Calls(on_step=stop)])


@pytest.mark.parametrize("recipe", [micro_finetuning, micro_probe])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_stopped_run_continues_to_the_same_bits(
    shards: Path, weights: Path, tmp_path: Path, recipe: Recipe, stop_after: int
) -> None:
    config = recipe(shards, weights)
    whole = run(config, tmp_path / "whole")
    stopped = run(config, tmp_path / "parts", stop_after=stop_after)
    assert (stopped.step, stopped.complete, stopped.weights, stopped.scores) == (
        stop_after,
        False,
        None,
        None,
    )
    # The order of the data does not depend on the workers either.
    resumed = run(replace(config, data=replace(config.data, num_workers=2)), tmp_path / "parts", resume=True)
    before, after = load_file(whole.weights), load_file(resumed.weights)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert resumed.scores == whole.scores
    assert logged(resumed, "loss") == logged(whole, "loss")


@pytest.fixture(scope="module")
def learned(shards: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """Of a probe that is trained until it is never wrong."""
    config = micro_probe(shards, weights, "num_epochs=20", "average_epochs=none", "optimizer.lr=0.003")
    return run(config, tmp_path_factory.mktemp("learned") / "run")


def test_a_frozen_model_keeps_its_encoders_and_learns_its_classes(
    weights: Path, learned: FinetuneResult
) -> None:
    before, after = load_file(weights), load_file(learned.weights)
    shared = before.keys() & after.keys()
    assert len(shared) > 20
    assert all(torch.equal(before[name], after[name]) for name in shared)
    assert learned.scores.mean_average_precision == 1.0


def test_kept_features_are_those_of_every_step(shards: Path, weights: Path, tmp_path: Path) -> None:
    kept = run(micro_probe(shards, weights), tmp_path / "kept")
    computed = run(micro_probe(shards, weights, "cache_features=false"), tmp_path / "computed")
    for name, tensor in load_file(kept.weights).items():
        torch.testing.assert_close(load_file(computed.weights)[name], tensor, atol=1e-4, rtol=1e-4)


def test_finetuning_learns_with_every_random_change(shards: Path, weights: Path, tmp_path: Path) -> None:
    config = micro_finetuning(shards, weights, "num_epochs=25", "average_epochs=20,25")
    result = run(config, tmp_path / "run")
    losses = logged(result, "loss")
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert result.scores.top1 == 1.0


@pytest.mark.parametrize("modality", ["audio", "image"])
@pytest.mark.parametrize("kind", ["attention", "linear", "mlp"])
def test_one_modality_alone_is_trained_without_reading_the_other(
    shards: Path, weights: Path, tmp_path: Path, modality: str, kind: str
) -> None:
    config = micro_finetuning(shards, weights, f"head.modality={modality}", f"head.kind={kind}")
    clips = LabelledClips(
        InitialWeights.load(config).inputs(config.data), micro_model(), config.head.modality
    )
    item = TrainingClips(clips, config)[EpochSample(0, 0, 3)]
    assert item.keys() - {"target", "key"} == {modality}
    result = run(replace(config, num_epochs=1, average_epochs=None), tmp_path / "run")
    assert load_model(result.weights).classifier.modality == modality


def test_a_linear_probe_is_one_linear_layer(shards: Path, weights: Path) -> None:
    config = micro_probe(shards, weights, "head.kind=linear")
    classifier = InitialWeights.load(config).classifier(config, num_classes=3)
    trained = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    assert trained == ["head.weight", "head.bias"]


def test_the_run_folder_records_the_scores(shards: Path, weights: Path, tmp_path: Path) -> None:
    result = run(micro_finetuning(shards, weights, "monitor.curves=true"), tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert (scores["num_clips"], scores["without_positives"]) == (NUM_TEST, ["never"])
    assert [one["num_clips"] for one in scores["classes"]] == [2, 2, 0]
    validations = [
        json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    ]
    assert [one["step"] for one in validations] == [2, 4]
    # The last epoch's weights are averaged before they are scored.
    assert {name: scores[name] for name in ("auc", "top1")} == {
        name: validations[1][name] for name in ("auc", "top1")
    }
    assert (tmp_path / "run" / "curves.png").stat().st_size > 5000
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    # Left to the data and to the weights by the configuration, stored as what they were.
    assert (stored["task"], stored["data"]["mel_mean"], stored["data"]["pad_value"]) == (
        "single-label",
        -5.081,
        0,
    )
    assert load_model(result.checkpoint).classifier.num_classes == 3


def test_clips_with_longer_gaps_are_scored_but_not_trained_on(weights: Path, tmp_path: Path) -> None:
    # Clip 0 is in split train, clip 2 in test.
    gaps_s = {0: [(0.0, 1.0)], 2: [(0.0, 1.0)]}
    shards = write_labelled_shards(tmp_path / "shards", audio_gaps_s=gaps_s)
    config = micro_finetuning(shards, weights, "data.max_gap_s=0.5")
    facts: list[RunFacts] = []
    finetune(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_start=facts.append)])
    assert (facts[0].num_clips, facts[0].num_left_out) == (NUM_TRAIN - 1, 1)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["num_clips"] == NUM_TEST


def test_the_result_is_the_mean_of_the_chosen_epochs(shards: Path, weights: Path, tmp_path: Path) -> None:
    config = micro_finetuning(shards, weights, "checkpoint_every_steps=2")
    result = run(config, tmp_path / "run")
    epochs = [load_model(tmp_path / "run" / "checkpoints" / f"step-{step:06d}.pt") for step in (2, 4)]
    for name, tensor in load_file(result.weights).items():
        mean = (epochs[0].state_dict()[name] + epochs[1].state_dict()[name]) / 2
        torch.testing.assert_close(tensor, mean)


def test_an_average_takes_only_its_epochs() -> None:
    average, model = WeightAverage((2, 3)), torch.nn.Linear(1, 1, bias=False)
    for epoch, value in enumerate([100.0, 1.0, 3.0, 100.0], start=1):
        torch.nn.init.constant_(model.weight, value)
        average.after_epoch(epoch, model)
    assert average.weights["weight"].item() == 2.0


def test_the_head_learns_at_its_own_rate(shards: Path, weights: Path) -> None:
    config = micro_finetuning(shards, weights)
    model = InitialWeights.load(config).classifier(config, num_classes=3)
    step = finetune_step(config, "single-label", model, torch.device("cpu"))
    head = {id(parameter) for parameter in model.head.parameters()}
    for group in step.optimizer.param_groups:
        of_head = {id(parameter) in head for parameter in group["params"]}
        assert of_head == {group.get("lr_factor", 1.0) == 10}
    stepped = sum(len(group["params"]) for group in step.optimizer.param_groups)
    assert stepped == len(step.trained)


def test_rare_classes_are_drawn_as_often_as_frequent_ones() -> None:
    targets = torch.zeros(100, 2)
    targets[:90, 0] = targets[90:, 1] = 1
    weights = class_weights(targets)
    assert weights[0] == pytest.approx(1000 / 90.01)
    batches = EpochBatchSampler(Epochs(100, 10, seed=1), weights)
    drawn = np.concatenate([batches.order(epoch) for epoch in range(20)])
    assert (drawn >= 90).mean() == pytest.approx(0.5, abs=0.04)
    assert np.array_equal(batches.order(3), batches.order(3))
    assert not np.array_equal(batches.order(3), batches.order(4))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("upstream", -5.081, 0.0)),
        ({"alignment": "time"}, ("time", -5.081, 0.0)),
        ({"mel_mean": -4.0, "mel_std": 4.0}, ("upstream", -4.0, None)),
    ],
)
def test_clips_are_cut_and_normalised_as_the_initial_weights_were_trained(
    given: dict[str, Any], expected: tuple[str, float, float | None]
) -> None:
    published = InitialWeights(Path("cav_mae_sync.pth"), CavMaeSync(micro_model()), PUBLISHED_INPUTS)
    inputs = published.inputs(DataConfig(path="data", **given))
    assert (inputs.alignment, inputs.mel_mean, inputs.pad_value) == expected
    own = replace(published, trained=DataConfig(path="data", alignment="time"))
    assert own.inputs(DataConfig(path="data")).alignment == "time"


def test_a_clip_drawn_twice_is_augmented_differently(shards: Path, weights: Path) -> None:
    config = micro_finetuning(shards, weights)
    clips = LabelledClips(InitialWeights.load(config).inputs(config.data), micro_model(), "both")
    items = TrainingClips(clips, config)
    one, same, other = (items[EpochSample(0, index, 3)]["audio"] for index in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_powers_of_mixed_waveforms_add() -> None:
    rng = np.random.default_rng(0)
    waves, weight = rng.normal(size=(2, 2000, 64)), 0.3
    power = [
        np.log((np.abs(np.fft.rfft(wave)) ** 2).mean(axis=0))
        for wave in (*waves, weight * waves[0] + 0.7 * waves[1])
    ]
    one, other, mixture = map(torch.from_numpy, power)
    assert (mix_mels(one, other, weight) - mixture).abs().mean() < 0.05


def test_a_silent_row_leaves_the_other_audio() -> None:
    silent, audio = torch.full((2, 3), -torch.inf), torch.ones(2, 3)
    assert torch.allclose(mix_mels(audio, silent, 0.5), audio + 2 * np.log(0.5))
    assert torch.isneginf(mix_mels(silent, silent, 0.5)).all()


def test_hidden_bands_and_rows_are_runs_no_longer_than_asked() -> None:
    mel = torch.ones(40, 20)
    for seed in range(50):
        hidden = hide_bands(mel, 6, 10, np.random.default_rng(seed)) == 0
        bands, rows = hidden.all(dim=0).nonzero().flatten(), hidden.all(dim=1).nonzero().flatten()
        assert len(bands) < 6
        assert len(rows) < 10
        assert hidden.sum() == len(bands) * 40 + len(rows) * 20 - len(bands) * len(rows)
        assert (bands.diff() == 1).all()
    assert torch.equal(mel, torch.ones(40, 20))


def test_targets_of_mixtures_and_smoothing() -> None:
    assert smoothed(torch.tensor([1.0, 0, 0, 0]), 0.1).tolist() == pytest.approx([0.9, 0.025, 0.025, 0.025])
    black, white = torch.zeros(1, 1, 3, dtype=torch.uint8), torch.full((1, 1, 3), 200, dtype=torch.uint8)
    assert mix_images(white, black, 0.25).flatten().tolist() == [50, 50, 50]


def test_the_loss_is_that_of_the_task() -> None:
    logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert class_loss(logits, targets, "single-label") == pytest.approx(np.log(1 + np.exp(-2)))
    both = (np.log(1 + np.exp(-2)) + np.log(2)) / 2
    assert class_loss(logits, targets, "multi-label") == pytest.approx(both)


def test_probabilities_of_frames_are_averaged_not_their_logits() -> None:
    class Answering:
        head = torch.nn.Identity()

    model = Answering()
    model.head.register_parameter("device", torch.nn.Parameter(torch.zeros(1)))
    frames = torch.tensor([[4.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    single = class_probabilities(model, [frames], "single-label")
    assert single[0, 0] == pytest.approx(torch.softmax(frames, -1)[:, 0].mean().item())
    several = class_probabilities(model, [frames], "multi-label")
    assert several[0].tolist() == pytest.approx(torch.sigmoid(frames).mean(0).tolist())


def test_several_labels_make_a_multi_label_task(weights: Path, tmp_path: Path) -> None:
    path = write_labelled_shards(tmp_path / "shards", lambda clip: ["dark", "bright"][: 1 + clip % 2])
    result = run(micro_finetuning(path, weights, "num_epochs=1", "average_epochs=none"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["task"] == "multi-label"
    assert result.complete
    with pytest.raises(
        DatasetError, match=r"task=single-label, and 4 of 8 clips .* have several labels \(up to 2\)"
    ):
        run(micro_finetuning(path, weights, "task=single-label"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert task_of(torch.eye(2)) == "single-label"


def test_a_dataset_without_labels_is_refused(weights: Path, tmp_path: Path) -> None:
    path = write_known_shards(tmp_path / "shards", num_clips=6)
    with pytest.raises(
        DatasetError,
        match=r"has no labels, so there is nothing to classify: prepare it from a list .* --labels-from folders",
    ):
        run(micro_finetuning(path, weights), tmp_path / "run")


def test_clips_without_or_with_unknown_labels_are_refused(weights: Path, tmp_path: Path) -> None:
    bare = write_labelled_shards(tmp_path / "bare", lambda clip: ["dark"] if clip else [])
    with pytest.raises(DatasetError, match=r"1 of 8 clips of .*bare, split 'train' have no label"):
        run(micro_finetuning(bare, weights), tmp_path / "run")
    strange = write_labelled_shards(tmp_path / "strange", lambda clip: ["grey"])
    with pytest.raises(DatasetError, match=r"labels that are none of its 3 classes: grey\. Prepare it again"):
        run(micro_finetuning(strange, weights), tmp_path / "run")


def test_a_missing_validation_split_is_named(weights: Path, tmp_path: Path) -> None:
    path = write_labelled_shards(tmp_path / "shards")
    summary = json.loads((path / "dataset.json").read_text())
    summary["splits"].pop("test")
    (path / "dataset.json").write_text(json.dumps(summary))
    with pytest.raises(DatasetError, match=r"has no split 'test'; it has: train \(train\)"):
        run(micro_finetuning(path, weights), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert run(micro_finetuning(path, weights, "validation_split=none"), tmp_path / "run").scores is None


def test_weights_must_be_given(shards: Path, weights: Path, tmp_path: Path) -> None:
    config = replace(micro_finetuning(shards, weights), initial_weights=None)
    with pytest.raises(
        ConfigError, match="name the weights that the encoders start from, with --from RUN or --from FILE"
    ):
        run(config, tmp_path / "run")


def test_a_head_is_continued_only_where_it_fits(shards: Path, weights: Path, tmp_path: Path) -> None:
    probe = run(micro_probe(shards, weights), tmp_path / "probe")
    tuned = micro_finetuning(shards, probe.weights, "keep_head=true")
    before, after = load_model(probe.weights), InitialWeights.load(tuned).classifier(tuned, num_classes=3)
    assert torch.equal(before.head.linear.weight, after.head.linear.weight)
    assert after.parameter_groups()["encoder"]
    with pytest.raises(ConfigError, match=r"another head: num_classes is 3, not 5\. Set head\.\* to match"):
        InitialWeights.load(tuned).classifier(tuned, num_classes=5)
    fresh = micro_finetuning(shards, weights, "keep_head=true")
    initial = InitialWeights.load(fresh)
    with pytest.raises(ConfigError, match="is a pretrained model and has no head"):
        initial.classifier(fresh, num_classes=3)


def test_windows_of_another_length_get_new_positions(shards: Path, weights: Path, tmp_path: Path) -> None:
    config = micro_finetuning(shards, weights, "audio_rows=48", "num_epochs=1", "average_epochs=none")
    model = load_model(run(config, tmp_path / "run").weights)
    assert model.config.audio_rows == 48
    assert model.pos_embed_a.shape[1] == 8 * 3


def test_features_are_kept_only_of_frozen_and_unchanged_clips(shards: Path, weights: Path) -> None:
    with pytest.raises(
        ConfigError, match="cache_features=True keeps what frozen encoders make of unchanged clips"
    ):
        micro_finetuning(shards, weights, "cache_features=true", "frozen=true")
    with pytest.raises(ConfigError, match=r"average_epochs=\(1, 2\) is no range of the 1 epochs"):
        micro_finetuning(shards, weights, "num_epochs=1")


def test_a_taken_folder_and_other_classes_on_resume_are_refused(
    shards: Path, weights: Path, tmp_path: Path
) -> None:
    config = micro_probe(shards, weights)
    run(config, tmp_path / "run", stop_after=1)
    with pytest.raises(RunError, match="exists and is not overwritten"):
        run(config, tmp_path / "run")
    with pytest.raises(RunError, match=r"head\.kind was 'attention', now 'linear'"):
        run(micro_probe(shards, weights, "head.kind=linear"), tmp_path / "run", resume=True)
    renamed = write_labelled_shards(tmp_path / "renamed", classes=("dark", "bright", "other"))
    with pytest.raises(RunError, match="has 8 clips of 3 classes, and they are not those that"):
        run(micro_probe(renamed, weights), tmp_path / "run", resume=True)


def test_a_non_finite_loss_names_the_clips(
    shards: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CavMaeClassifier, "frame_features", lambda model, audio, image: torch.full((4, 2, 32), torch.nan)
    )
    with pytest.raises(NonFiniteError, match=r"Step 1 is not finite: loss nan, .* Its clips: clip0\d\d_"):
        run(micro_finetuning(shards, weights), tmp_path / "run")


def test_the_error_for_a_step_out_of_memory_names_the_options(
    shards: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*inputs: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(CavMaeClassifier, "frame_features", too_large)
    message = r"Step 1 does not fit .* batch_size=4 clips of 2 frames .*frames_per_clip=1, batch_size=2"
    with pytest.raises(OutOfMemoryError, match=message):
        run(micro_finetuning(shards, weights), tmp_path / "run")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    shards: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = micro_finetuning(shards, weights, "checkpoint_every_steps=1")
    whole = run(config, tmp_path / "whole")
    stopped = run(config, tmp_path / "parts", stop_after=3)
    stopped.checkpoint.write_bytes(stopped.checkpoint.read_bytes()[:-1000])
    resumed = run(config, tmp_path / "parts", resume=True)
    assert "step-000003.pt is damaged" in caplog.text
    before, after = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_full_disk_at_the_end_is_an_error_and_the_run_is_kept(
    shards: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = micro_finetuning(shards, weights)
    with monkeypatch.context() as patch:
        patch.setattr("cavsync.train.finetune.trainer.save_model", full)
        with pytest.raises(
            RunError, match=r"model\.safetensors cannot be written: .*No space left.*--resume"
        ):
            run(config, tmp_path / "run")
    assert run(config, tmp_path / "run", resume=True).complete


def test_scores_are_json_even_where_a_figure_is_infinite(learned: FinetuneResult) -> None:
    assert math.isinf(learned.scores.d_prime)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    scores = json.loads((learned.run_dir / "scores.json").read_text(), parse_constant=refuse)
    assert (scores["mean_average_precision"], scores["d_prime"]) == (1.0, None)
    for line in (learned.run_dir / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_lost_before_the_scores_is_named_in_one_line(
    weights: Path, tmp_path: Path, num_workers: int
) -> None:
    shards = write_labelled_shards(tmp_path / "data")
    config = micro_finetuning(shards, weights, f"data.num_workers={num_workers}", "average_epochs=none")
    lost = shards / "shards" / "test-00004.tar"
    with pytest.raises(ShardError, match=r"test-00004\.tar is not what was prepared: it is gone"):
        finetune(
            config,
            tmp_path / "run",
            device="cpu",
            callbacks=[Calls(on_step=lambda metrics: lost.unlink(missing_ok=True))],
        )


@pytest.mark.parametrize("name", FINETUNE_PRESETS)
def test_a_preset_is_stored_under_its_name(name: str) -> None:
    config = finetune_preset(name)
    assert config.preset == name
    assert config.frozen == name.startswith("probe")


def test_presets_are_the_published_recipes() -> None:
    as20k, as2m, vgg = (finetune_preset(f"finetune-{name}") for name in ("as20k", "as2m", "vggsound"))
    rates = [
        (one.optimizer.lr, one.head_lr_factor, one.batch_size, one.num_epochs) for one in (as20k, as2m, vgg)
    ]
    assert rates == [(5e-5, 100, 36, 15), (1e-5, 50, 48, 10), (1e-4, 10, 48, 10)]
    assert [one.average_epochs for one in (as20k, as2m, vgg)] == [(3, 15), (1, 10), (3, 10)]
    assert [one.schedule.milestones[0] for one in (as20k, as2m, vgg)] == [5, 2, 2]
    assert [one.balanced for one in (as20k, as2m, vgg)] == [False, True, True]
    assert (vgg.task, as20k.task, as20k.data.split) == ("single-label", "multi-label", "balanced_train")
    # CAV-MAE's loader changes the audio and leaves the images as they are.
    assert {(one.data.audio_noise, one.data.image_augmentation) for one in (as20k, as2m, vgg)} == {
        (True, False)
    }
    probe = finetune_preset("probe-as20k")
    assert (probe.optimizer.lr, probe.batch_size, probe.num_epochs, probe.head.kind) == (
        2e-4,
        48,
        25,
        "attention",
    )
    with pytest.raises(
        ConfigError, match="no classifier preset 'finetune-as20'; did you mean 'finetune-as20k'"
    ):
        finetune_preset("finetune-as20")


def lines(result: FinetuneResult) -> list[dict[str, float]]:
    return [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]


def logged(result: FinetuneResult, name: str) -> list[float]:
    return [line[name] for line in lines(result)]


def test_the_dataset_of_these_tests_has_its_documented_content(shards: Path, weights: Path) -> None:
    config = micro_finetuning(shards, weights)
    train = LabelledClips(InitialWeights.load(config).inputs(config.data), micro_model(), "both")
    assert (len(train), train.targets.sum(dim=0).tolist()) == (NUM_TRAIN, [4, 4, 0])
