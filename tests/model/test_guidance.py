"""Proves that a teacher's priorities name the patches of the grid, in the direction asked for, and a view of its own."""

import pytest
import torch
from support.known_shards import micro_model
from torch import Tensor, nn

from cavsync.model.blocks import JointBlock
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import PriorityDirection
from cavsync.model.errors import ModelConfigError
from cavsync.model.masking import draw_mask
from cavsync.model.output import Guidance

DIRECTIONS: tuple[PriorityDirection, ...] = ("global-to-patch", "patch-to-global")
NUM_AUDIO, NUM_IMAGE = 16, 4  # patches of the micro model


def model(**changes: object) -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(micro_model(**changes)).eval()


def some_inputs(count: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, 32, 128, generator=draw), torch.randn(count, 3, 32, 32, generator=draw)


@torch.no_grad()
def guided(teacher: CavMaeSync, direction: PriorityDirection | None) -> tuple[Guidance, Guidance]:
    audio, image = some_inputs()
    return teacher.guide_audio(audio, direction), teacher.guide_image(image, direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_priorities_move_with_the_patches_they_belong_to(direction: PriorityDirection) -> None:
    # Each quarter of the image, with its entry of the position table, moves to another place.
    teacher, image = model(), some_inputs()[1]
    order = torch.tensor([2, 0, 3, 1])
    quarters = image.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)[:, :, order]  # (clips, 3, 4, 16, 16)
    rows = [torch.cat([quarters[:, :, row], quarters[:, :, row + 1]], dim=3) for row in (0, 2)]
    with torch.no_grad():
        before = teacher.guide_image(image, direction).priority
        teacher.pos_embed_v.copy_(teacher.pos_embed_v[:, order].clone())
        after = teacher.guide_image(torch.cat(rows, dim=2), direction).priority
    torch.testing.assert_close(after, before[:, order])
    assert before.std() > 0.005


def test_the_direction_decides_whose_attention_ranks() -> None:
    # Of one head of width 8, channel 0 marks the global token and channel 2 the planted patch. Queries are 10 times
    # channel 0, keys channel 2: the global token attends to the planted patch; patches attend to it least.
    block = JointBlock(8, 1, 1.0)
    with torch.no_grad():
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
        block.attn.qkv.weight[0, 0] = 10.0
        block.attn.qkv.weight[8, 2] = 1.0
        tokens = torch.eye(8)[[0, 5, 1, 2, 3]].unsqueeze(0)  # the planted patch is the third one
        of_global = block.global_attention(tokens, "a", "global-to-patch")[0]
        of_patches = block.global_attention(tokens, "a", "patch-to-global")[0]
    assert of_global[1:].argmax() == 2
    assert of_global[3] > 0.9
    # All patches ask the same, so the planted one is not ahead.
    torch.testing.assert_close(of_patches[1:], of_patches[1].expand(4))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_registers": 3, "keep_registers": True},
        {"global_tokens": "per-task"},
        {"joint_depth": 2, "contrastive_head_depth": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_only_patches_are_ranked_and_each_has_a_fraction_of_the_attention(
    changes: dict[str, object], direction: PriorityDirection
) -> None:
    audio, image = guided(model(**changes), direction)
    assert (audio.priority.shape, image.priority.shape) == ((3, NUM_AUDIO), (3, NUM_IMAGE))
    for priority in (audio.priority, image.priority):
        assert priority.dtype == torch.float32
        assert ((priority > 0) & (priority < 1)).all()
        if direction == "global-to-patch":
            assert (priority.sum(dim=1) < 1).all()  # the rest is the global token's, and that of registers


@pytest.mark.parametrize(
    "changes", [{}, {"global_tokens": "none"}, {"global_tokens": "per-task", "keep_registers": True}], ids=str
)
def test_the_token_of_a_teacher_is_that_of_whole_inputs(changes: dict[str, object]) -> None:
    teacher = model(**changes)
    audio, image = guided(teacher, None)
    assert audio.priority is image.priority is None
    with torch.no_grad():
        encodings = teacher.encode_audio(some_inputs()[0]), teacher.encode_image(some_inputs()[1])
    torch.testing.assert_close(audio.token, encodings[0].global_token)
    torch.testing.assert_close(image.token, encodings[1].global_token)


def test_contrastive_heads_are_left_out_of_what_is_distilled() -> None:
    # Identical weights but for the heads give the teacher's token and the student's alike.
    teacher = model(contrastive_head_depth=1)
    with torch.no_grad():
        encoding = teacher.encode_audio(some_inputs()[0])
    audio, _ = guided(teacher, None)
    torch.testing.assert_close(encoding.distilled_token, audio.token)
    assert (encoding.distilled_token - encoding.global_token).abs().max() > 0.01


def test_a_model_without_global_tokens_has_no_priorities() -> None:
    with pytest.raises(ModelConfigError, match='priorities need global_tokens="contrastive" or "per-task"'):
        guided(model(global_tokens="none"), "global-to-patch")


def test_a_view_of_the_reconstructions_patches_is_the_pass_of_the_reconstruction() -> None:
    student, (audio, image) = model(), some_inputs()
    noise = torch.rand(3, NUM_AUDIO), torch.rand(3, NUM_IMAGE)
    kept = [draw_mask(one, 0.75).kept for one in noise]
    one, two = student(audio, image, *noise), student(audio, image, *noise, *kept)
    assert torch.equal(one.loss, two.loss)
    gradients = [torch.autograd.grad(out.loss, trained(student)) for out in (one, two)]
    flat = [torch.cat([gradient.flatten() for gradient in each]) for each in gradients]
    assert (flat[0] - flat[1]).norm() < 1e-5 * flat[0].norm()


def test_a_view_of_its_own_leaves_the_reconstruction_alone() -> None:
    student, (audio, image) = model(), some_inputs()
    noise = torch.rand(3, NUM_AUDIO), torch.rand(3, NUM_IMAGE)
    all_patches = [torch.arange(count).expand(3, -1) for count in (NUM_AUDIO, NUM_IMAGE)]
    one, two = student(audio, image, *noise), student(audio, image, *noise, *all_patches)
    assert torch.equal(one.reconstruction_audio, two.reconstruction_audio)
    assert torch.equal(one.reconstruction_image, two.reconstruction_image)
    whole = student.encode_audio(audio), student.encode_image(image)
    torch.testing.assert_close(two.embedding_audio, whole[0].global_token)
    torch.testing.assert_close(two.embedding_image, whole[1].global_token)
    embeddings = student.contrastive_embeddings(audio, image, *noise, *all_patches)
    torch.testing.assert_close(embeddings, (two.embedding_audio, two.embedding_image))


def test_half_precision_leaves_priorities_in_float32() -> None:
    teacher = model()
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = guided(teacher, "global-to-patch")
    full, _ = guided(teacher, "global-to-patch")
    assert half.priority.dtype == torch.float32
    torch.testing.assert_close(half.priority, full.priority, rtol=0.1, atol=0)


def trained(student: CavMaeSync) -> list[nn.Parameter]:
    return [one for one in student.parameters() if one.requires_grad]
