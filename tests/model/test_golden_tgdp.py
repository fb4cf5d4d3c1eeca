"""Proves that the same weights give what the released class of TG-DP computes, within 1e-5.

`golden/tgdp.json` holds outputs of the unmodified class of wanglg20/TG-DP (CPU, float32) at small widths; its missing
`ranked_masking` was replaced by "the first of the given order". Weights and inputs follow formulas, as in test_golden.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from support.reference.golden_formulas import TEACHER_PHASE, assert_matches, formula_weights, inputs, noise
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.checkpoints.official import official_names, official_state_dict
from cavsync.model.config import PriorityDirection, sync_base
from cavsync.model.losses import contrastive_loss, distillation_loss
from cavsync.model.masking import draw_mask
from cavsync.model.output import Guidance, Output

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "support" / "golden" / "tgdp.json").read_text()
)
SMALL = replace(
    sync_base(),
    embed_dim=48,
    num_heads=4,
    decoder_dim=32,
    decoder_depth=2,
    decoder_num_heads=4,
    contrastive_weight=0.1,
)
CONFIGS = {"tgdp_small": SMALL, "tgdp_small_96rows_4reg": replace(SMALL, audio_rows=96, num_registers=4)}
DIRECTIONS: tuple[PriorityDirection, ...] = ("patch-to-global", "global-to-patch")
MODALITIES = ("audio", "image")
VIEW_RATIO = 0.5


class Entry(NamedTuple):
    golden: dict[str, Any]
    student: CavMaeSync
    guidance: dict[PriorityDirection, dict[str, Guidance]]
    outputs: dict[str, Output]


@pytest.fixture(scope="module", params=CONFIGS)
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The student as read from a file in the release's layout, each name after `module.`; the teacher's guidance, and the
    student's outputs for random and for guided patches."""
    config = CONFIGS[request.param]
    path = tmp_path_factory.mktemp("tgdp") / "best_audio_model.pth"
    weights = formula_weights(CavMaeSync(config))
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    student = load_model(path, num_heads=4, decoder_num_heads=4, contrastive_weight=0.1)
    teacher = CavMaeSync(config).eval()
    of_teacher = formula_weights(teacher, TEACHER_PHASE)
    teacher.load_state_dict({ours: of_teacher[theirs] for ours, theirs in official_names(teacher).items()})
    audio, image = inputs(config)
    with torch.no_grad():
        guidance = {
            direction: {
                "audio": teacher.guide_audio(audio, direction),
                "image": teacher.guide_image(image, direction),
            }
            for direction in DIRECTIONS
        }
        sizes = config.num_audio_patches, config.num_image_patches
        scores = {
            "random": [noise(size, number) for number, size in enumerate(sizes, start=2)],
            "guided": [-guidance["patch-to-global"][name].priority for name in MODALITIES],
        }
        reconstruction_noise = [noise(size, number) for number, size in enumerate(sizes)]
        outputs = {
            name: student(audio, image, *reconstruction_noise, *(draw_mask(s, VIEW_RATIO).kept for s in both))
            for name, both in scores.items()
        }
    return Entry(GOLDEN[request.param], student, guidance, outputs)


def test_the_releases_file_is_read_as_a_sync_model_with_the_same_features(entry: Entry) -> None:
    student = entry.student
    assert sum(t.numel() for t in official_state_dict(student).values()) == entry.golden["n_params"]
    audio, image = inputs(student.config)
    with torch.no_grad():
        a, v = student.encode_audio(audio), student.encode_image(image)
    ours = [a.patches.flatten(1, 2), v.patches.flatten(1, 2), a.global_token, v.global_token]
    for actual, expected in zip(ours, entry.golden["forward_feat"], strict=True):
        assert_matches(actual, expected)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_priorities_of_the_teacher_match_and_keep_the_same_patches(
    entry: Entry, direction: PriorityDirection, modality: str
) -> None:
    golden, name = entry.golden["teacher"], direction.replace("-", "_")
    guidance = entry.guidance[direction][modality]
    # Uniform attention would be 1.
    assert_matches(guidance.priority * (guidance.priority.shape[1] + 1), golden[modality][f"priority_{name}"])
    assert_matches(guidance.token, golden[f"global_{modality}"])
    kept = draw_mask(-guidance.priority, VIEW_RATIO).kept
    assert kept.sort(dim=1).values.tolist() == golden[modality][f"kept_{name}"]


@pytest.mark.parametrize("patches", ["random", "guided"])
def test_losses_of_both_paths_match(entry: Entry, patches: str) -> None:
    golden, out = entry.golden[patches], entry.outputs[patches]
    for name, direction in (("released_default", "one-way"), ("released_distributed", "two-way")):
        contrast = contrastive_loss(out.embedding_audio, out.embedding_image, 0.05, direction)
        weighted = 0.1 * contrast.loss
        reconstruction = out.reconstruction_audio + out.reconstruction_image
        ours = {
            "loss": reconstruction + weighted,
            "loss_mae": reconstruction,
            "loss_mae_a": out.reconstruction_audio,
            "loss_mae_v": out.reconstruction_image,
            "loss_c": weighted,
        }
        for part, loss in ours.items():
            assert loss.item() == pytest.approx(golden[name][part], abs=1e-5), (name, part)
    assert out.loss.item() == pytest.approx(golden["released_default"]["loss"], abs=1e-5)


@pytest.mark.parametrize("patches", ["random", "guided"])
def test_tokens_of_both_paths_and_their_distillation_match(entry: Entry, patches: str) -> None:
    golden, out = entry.golden[patches], entry.outputs[patches]
    of_modality = {"audio": out.encoding_audio, "image": out.encoding_image}
    for name, encoding in of_modality.items():
        assert_matches(encoding.global_token, golden[f"global_{name}"])
        assert_matches(encoding.patches.mean(dim=1), golden[f"tokens_{name}_mean_over_kept"])
    assert_matches(out.latent, golden["reconstruction_latent"])
    guidance = entry.guidance["patch-to-global"]
    losses: list[Tensor] = [
        distillation_loss(of_modality[name].distilled_token, guidance[name].token) for name in MODALITIES
    ]
    expected = golden["distillation"]["mse_mean_over_all"]
    assert torch.stack(losses).sum().item() == pytest.approx(expected, abs=1e-5)


def test_without_a_view_of_its_own_the_loss_is_syncs(entry: Entry) -> None:
    config = entry.student.config
    noises = noise(config.num_audio_patches, 0), noise(config.num_image_patches, 1)
    with torch.no_grad():
        out: Output = entry.student(*inputs(config), *noises)
    assert out.loss.item() == pytest.approx(entry.golden["single_path_as_sync"]["loss"], abs=1e-5)
