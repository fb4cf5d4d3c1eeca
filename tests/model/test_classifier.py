"""Proves that classifiers compute what upstream's do, train what they should, and hold what upstream's files hold.

`golden/classifier.json` holds logits of the unmodified fine-tuning classes of edsonroteia/cav-mae-sync and
YuanGongND/cav-mae at small widths; `reference_model.py` covers the rest.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference import reference_model as reference
from support.reference.golden_formulas import assert_matches, formula_weights, inputs
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import (
    ClassifierConfig,
    attention_probe,
    cavmae_finetuning,
    linear_probe,
    sync_finetuning,
)
from cavsync.model.config import ModelConfig, cavmae_base, sync_base

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "support" / "golden" / "classifier.json").read_text()
)
MODALITIES: dict[str, Any] = {"multimodal": "both", "audioonly": "audio", "videoonly": "image"}
SIZES: dict[str, Any] = {
    "audio_rows": 64,
    "image_size": 32,
    "embed_dim": 24,
    "num_heads": 2,
    "encoder_depth": 2,
}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)
MISSING: dict[str, Any] = {"features": "joint-and-own"}
UPSTREAM = {
    "CAV-MAE": (CAVMAE, cavmae_finetuning, {}),
    "CAV-MAE, missing": (CAVMAE, cavmae_finetuning, MISSING),
    "Sync": (SYNC, sync_finetuning, {}),
    "Sync, missing": (SYNC, sync_finetuning, MISSING),
    "Sync, attention": (SYNC, attention_probe, {}),
    "Sync, attention, no tokens": (replace(SYNC, global_tokens="none", num_registers=0), attention_probe, {}),
    "Sync, two joint blocks": (replace(SYNC, joint_depth=2), sync_finetuning, {}),
    "Sync, no registers": (replace(SYNC, num_registers=0), attention_probe, {}),
}
RECIPES = (attention_probe, linear_probe, cavmae_finetuning, sync_finetuning)
EVERY = [recipe(5, modality) for recipe in RECIPES for modality in ("both", "audio", "image")]
EVERY += [replace(cavmae_finetuning(5, modality), **MISSING) for modality in ("audio", "image")]


def build(model: ModelConfig, config: ClassifierConfig) -> CavMaeClassifier:
    torch.manual_seed(0)
    classifier = CavMaeClassifier(model, config)
    with torch.no_grad():  # nothing at a value, such as 1 or 0, that would hide its absence
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return classifier.eval()


def videos(model: ModelConfig, num_videos: int = 2, frames: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(num_videos, frames, model.audio_rows, model.num_mels, generator=generator)
    return audio, torch.randn(num_videos, frames, 3, model.image_size, model.image_size, generator=generator)


def label(config: ClassifierConfig) -> str:
    return f"{config.head}-{config.modality}-{config.features}"


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_are_upstreams(name: str, tmp_path: Path) -> None:
    entry = GOLDEN[name]
    released = cavmae_base() if name.startswith("cavmae") else sync_base()
    model = replace(released, embed_dim=48, num_heads=4)
    recipe = cavmae_finetuning if released == cavmae_base() else sync_finetuning
    if entry["ctor"].get("aggregate") == "self_attention_cls":
        recipe = attention_probe
    modality = MODALITIES[entry["mode"]]
    tensors = formula_weights(CavMaeClassifier(model, recipe(10, modality)))
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "best.pth")
    classifier = load_model(tmp_path / "best.pth", num_heads=4, modality=modality)
    assert classifier.classifier == recipe(10, modality)
    frames = entry["ctor"].get("total_frame", 1)
    audio, image = (x.unflatten(0, (-1, frames)) for x in inputs(model, entry["B"]))
    with torch.no_grad():
        assert_matches(classifier.frame_logits(audio, image).flatten(0, 1), entry["logits"])


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        (name, modality)
        for name, (_, recipe, changes) in UPSTREAM.items()
        for modality in MODALITIES.values()
        # Upstream has no missing mode of both, and crashes on both with Sync's plain head.
        if modality != "both" or (recipe is not sync_finetuning and not changes)
    ],
)
def test_logits_are_those_of_the_reference(name: str, modality: Any) -> None:
    model, recipe, changes = UPSTREAM[name]
    config = replace(recipe(5, modality), **changes)
    classifier, (audio, image) = build(model, config), videos(model)
    mode = next(mode for mode, ours in MODALITIES.items() if ours == modality)
    with torch.no_grad():
        ours = classifier.frame_logits(audio, image)
        theirs = reference.classify(
            official_state_dict(classifier),
            audio.flatten(0, 1),
            image.flatten(0, 1),
            f"missing{mode}" if changes else mode,
            frames=3,
            choices=reference.Choices(heads=2),
        )
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)


def test_syncs_plain_head_joins_both_modalities_where_upstream_crashes() -> None:
    classifier, (audio, image) = build(SYNC, sync_finetuning(5)), videos(SYNC)
    assert classifier(audio, image).shape == (2, 5)
    assert not torch.allclose(classifier(-audio, image), classifier(audio, image))
    assert not torch.allclose(classifier(audio, -image), classifier(audio, image))


@pytest.mark.parametrize(
    ("model", "config", "num_parameters"),
    [
        (sync_base(), sync_finetuning(527), 164_687_375),
        (sync_base(), attention_probe(527), 221_782_799),
        (cavmae_base(), cavmae_finetuning(527), 164_907_023),
        (cavmae_base(), cavmae_finetuning(309), 164_739_381),
    ],
    ids=["Sync", "Sync, attention", "CAV-MAE AudioSet", "CAV-MAE VGGSound"],
)
def test_upstreams_layout_has_upstreams_number_of_parameters(
    model: ModelConfig, config: ClassifierConfig, num_parameters: int
) -> None:
    with torch.device("meta"):
        tensors = official_state_dict(CavMaeClassifier(model, config))
    assert sum(tensor.numel() for tensor in tensors.values()) == num_parameters


@pytest.mark.parametrize("config", EVERY, ids=label)
@pytest.mark.parametrize(
    "model",
    [
        SYNC,
        CAVMAE,
        replace(SYNC, global_tokens="per-task", contrastive_head_depth=1),
        replace(SYNC, keep_registers=True),
    ],
    ids=["Sync", "CAV-MAE", "a token per task", "kept registers"],
)
def test_the_gradient_reaches_all_that_is_trained_and_nothing_else(
    model: ModelConfig, config: ClassifierConfig
) -> None:
    classifier = build(model, config)
    for parameter in classifier.parameters():
        parameter.requires_grad_(True)
    logits = classifier(*videos(model))
    logits.pow(3).sum().backward()
    reached = {name for name, p in classifier.named_parameters() if p.grad is not None and p.grad.any()}
    trained = {name for name, p in build(model, config).named_parameters() if p.requires_grad}
    assert trained == reached


@pytest.mark.parametrize("config", EVERY, ids=label)
def test_the_logits_of_a_video_do_not_depend_on_the_others(config: ClassifierConfig) -> None:
    classifier, (audio, image) = build(SYNC, config), videos(SYNC, num_videos=3)
    together = classifier(audio, image)
    assert together.shape == (3, 5)
    torch.testing.assert_close(classifier(audio[1:2], image[1:2]), together[1:2])


@pytest.mark.parametrize("config", EVERY, ids=label)
def test_the_order_of_frames_does_not_matter(config: ClassifierConfig) -> None:
    classifier, (audio, image) = build(SYNC, config), videos(SYNC)
    torch.testing.assert_close(classifier(audio.flip(1), image.flip(1)), classifier(audio, image))


def test_attention_gives_logits_for_a_video_and_the_other_heads_for_each_frame() -> None:
    for recipe, predictions in ((attention_probe, 1), (cavmae_finetuning, 3), (linear_probe, 3)):
        classifier = build(SYNC, recipe(5))
        assert classifier.frame_logits(*videos(SYNC)).shape == (2, predictions, 5)
        torch.testing.assert_close(classifier(*videos(SYNC)), classifier.frame_logits(*videos(SYNC)).mean(1))


def test_a_linear_probe_is_linear_in_the_embeddings_of_retrieval() -> None:
    classifier, (audio, image) = build(SYNC, linear_probe(5)), videos(SYNC)
    audio_encoding, image_encoding = (
        classifier.encode_audio(audio[:, 0]),
        classifier.encode_image(image[:, 0]),
    )
    vectors = torch.cat([audio_encoding.global_token, image_encoding.global_token], dim=1)
    torch.testing.assert_close(classifier.frame_features(audio, image)[:, 0], vectors)
    assert {name for name, _ in classifier.head.named_parameters()} == {"weight", "bias"}
    torch.testing.assert_close(classifier.frame_logits(audio, image)[:, 0], classifier.head(vectors))


@pytest.mark.parametrize("global_tokens", ["contrastive", "none", "per-task"])
def test_a_pretrained_model_gives_its_encoders(global_tokens: Any) -> None:
    torch.manual_seed(3)
    pretrained = CavMaeSync(replace(SYNC, global_tokens=global_tokens, decoder_dim=16, decoder_num_heads=2))
    classifier = CavMaeClassifier.from_pretrained(pretrained, attention_probe(5))
    audio, image = videos(SYNC)
    ours, theirs = classifier.encode_audio(audio[0]), pretrained.encode_audio(audio[0])
    torch.testing.assert_close(ours.patches, theirs.patches)
    with torch.no_grad():
        classifier.patch_embed_a.proj.weight.zero_()  # a copy: the pretrained model keeps its own
    torch.testing.assert_close(pretrained.encode_audio(audio[0]).patches, theirs.patches)
    assert classifier(audio, image).shape == (2, 5)


def test_parameter_groups_separate_the_head_from_the_encoders() -> None:
    classifier = build(SYNC, attention_probe(5))
    groups = classifier.parameter_groups()
    assert {id(p) for p in groups["head"]} == {id(p) for p in classifier.head.parameters()}
    trained = [p for p in classifier.parameters() if p.requires_grad]
    assert len(groups["encoder"]) + len(groups["head"]) == len(trained)
    assert not any(p is classifier.norm.weight for p in groups["encoder"])  # idle before the joint block
    assert any(p is classifier.pos_embed_a for p in groups["encoder"])  # trained here, as upstream


def test_a_frozen_encoder_stays_as_it_is_while_the_whole_head_trains() -> None:
    classifier = build(SYNC, attention_probe(5)).train()
    classifier.freeze_encoder()
    assert classifier.parameter_groups()["encoder"] == []
    assert (classifier.training, classifier.head.training, classifier.blocks_a.training) == (
        True,
        True,
        False,
    )
    assert not classifier.eval().head.training
    assert classifier.train().head.training
    assert not classifier.frame_features(*videos(SYNC)).requires_grad
    before = {name: p.clone() for name, p in classifier.named_parameters()}
    optimizer = torch.optim.SGD(classifier.parameter_groups()["head"], lr=1.0)
    classifier(*videos(SYNC)).pow(3).sum().backward()
    optimizer.step()
    changed = {name for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith("head.")}


def test_a_probe_learns_from_frozen_encoders() -> None:
    classifier, (audio, image) = build(SYNC, attention_probe(2)), videos(SYNC, num_videos=8)
    classifier.freeze_encoder()
    labels = torch.arange(8) % 2
    vectors = classifier.frame_features(audio, image)
    optimizer = torch.optim.Adam(classifier.parameter_groups()["head"], lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(classifier.head(vectors).mean(1), labels)
        loss.backward()
        optimizer.step()
    assert (classifier(audio, image).argmax(1) == labels).all()


def test_a_classifier_of_one_modality_ignores_the_other() -> None:
    audio, image = videos(SYNC)
    of_audio, of_image = build(SYNC, attention_probe(5, "audio")), build(SYNC, attention_probe(5, "image"))
    torch.testing.assert_close(of_audio(audio), of_audio(audio, image))
    torch.testing.assert_close(of_image(image=image), of_image(audio, image))


@pytest.mark.parametrize(
    ("audio", "image", "message"),
    [
        (None, (2, 3, 3, 32, 32), r"audio=None: modality='both' takes \(videos, frames"),
        ((2, 3, 64, 128), None, r"image=None"),
        ((6, 64, 128), (6, 3, 32, 32), r"audio=\(6, 64, 128\): .*takes \(videos, frames"),
        ((2, 3, 64, 128), (2, 4, 3, 32, 32), r"audio and image are \(2, 3\) and \(2, 4\) \(videos, frames\)"),
        ((2, 3, 96, 128), (2, 3, 3, 32, 32), r"audio has shape \(6, 96, 128\), .*audio_rows="),
    ],
)
def test_an_input_of_another_shape_is_refused_with_the_right_one(
    audio: tuple[int, ...] | None, image: tuple[int, ...] | None, message: str
) -> None:
    given = [None if shape is None else torch.zeros(shape) for shape in (audio, image)]
    with pytest.raises(ValueError, match=message):
        build(SYNC, attention_probe(5))(*given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 must be 1 or more"),
        ({"num_classes": "10"}, "num_classes='10' must be of type int"),
        ({"head": "mpl"}, "head='mpl' must be one of attention, mlp, linear"),
        ({"modality": "video"}, "modality='video' must be one of both, audio, image"),
        ({"features": "joint-and-own"}, 'takes one modality: set modality="audio"'),
    ],
)
def test_an_invalid_configuration_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(attention_probe(5), **changes)
