"""The published CAV-MAE and CAV-MAE Sync, restated as functions of a dictionary of tensors in their own layout.

An independent implementation for the tests: written from a description of the published computation, in plain
torch and float32, it shares no code with the package. `w` holds the tensors, `heads` how many heads attention has; all
else is read from shapes. `a` and `v` are the two modalities' name endings.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Choices:
    """The choices of a configuration that shapes do not determine."""

    heads: int
    decoder_heads: int = 1
    patch: int = 16
    keep_registers: bool = False
    norm_pix: bool = True
    global_local: bool = False
    contrast_weight: float = 0.1
    mae_weight: float = 1.0
    ratio_audio: float = 0.75
    ratio_image: float = 0.75
    with_faults: bool = False
    """Restates the published code where it is at fault too, as docs/exporting.md lists."""


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def block(w: Weights, name: str, x: Tensor, heads: int, ending: str = "") -> Tensor:
    batch, length, width = x.shape
    qkv = linear(w, f"{name}.attn.qkv", norm(w, f"{name}.norm1{ending}", x))
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    attention = torch.softmax(q @ k.transpose(-1, -2) * (width // heads) ** -0.5, dim=-1)
    x = x + linear(w, f"{name}.attn.proj", (attention @ v).transpose(1, 2).reshape(batch, length, width))
    hidden = linear(w, f"{name}.mlp.fc1", norm(w, f"{name}.norm2{ending}", x))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + linear(w, f"{name}.mlp.fc2", hidden)


def stack(w: Weights, name: str, x: Tensor, heads: int, ending: str = "") -> Tensor:
    depth = len({key.split(".")[1] for key in w if key.startswith(f"{name}.")})
    for i in range(depth):
        x = block(w, f"{name}.{i}", x, heads, ending)
    return x


def patchify(image: Tensor, patch: int) -> Tensor:
    """(n, channels, height, width) to (n, patches, values): row, column, channel, as the targets are."""
    rows = image.unfold(2, patch, patch).unfold(3, patch, patch)  # n, c, rows, columns, p, q
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(1, 2).flatten(2)


def tokens(w: Weights, x: Tensor, m: str, patch: int) -> Tensor:
    """Patches with positions and modality; the convolution is a matrix product."""
    image = x.transpose(1, 2)[:, None] if m == "a" else x
    filters = w[f"patch_embed_{m}.proj.weight"].permute(0, 2, 3, 1).flatten(1)
    embedded = patchify(image, patch) @ filters.T + w[f"patch_embed_{m}.proj.bias"]
    return embedded + w[f"pos_embed_{m}"] + w[f"modality_{m}"]


def encode(w: Weights, x: Tensor, m: str, choices: Choices, learned: bool = True) -> Tensor:
    """Through the modality's own blocks, with its global token in front and (where kept) registers behind."""
    registers = registers_of(w, m) if learned else x.new_empty(0, x.shape[-1])
    if learned and f"cls_token_{m}" in w:
        x = torch.cat([w[f"cls_token_{m}"].repeat(len(x), 1, 1), x], dim=1)
    x = torch.cat([x, registers[None].repeat(len(x), 1, 1)], dim=1)
    x = stack(w, f"blocks_{m}", x, choices.heads)
    return x if choices.keep_registers else x[:, : x.shape[1] - len(registers)]


def registers_of(w: Weights, m: str) -> Tensor:
    if "register_tokens" not in w:
        return w["modality_a"].new_empty(0, w["modality_a"].shape[-1])
    half = len(w["register_tokens"]) // 2
    return w["register_tokens"][:half] if m == "a" else w["register_tokens"][half:]


def contrastive_tokens(w: Weights, x: Tensor, m: str, choices: Choices) -> tuple[Tensor, Tensor]:
    """One modality alone: its global embedding (or the mean) and its patches."""
    if (
        choices.with_faults
    ):  # each joint block starts from the encoder's output, so that the last alone counts
        last = max(int(key.split(".")[1]) for key in w if key.startswith("blocks_u."))
        x = block(w, f"blocks_u.{last}", x, choices.heads, f"_{m}")
    else:
        x = stack(w, "blocks_u", x, choices.heads, f"_{m}")
    x = stack(w, {"a": "constrative_head_audio", "v": "constrative_head_visual"}[m], x, choices.heads)
    if choices.keep_registers:
        x = x[:, : x.shape[1] - len(registers_of(w, m))]
    x = norm(w, f"norm_{m}", x)
    return (x[:, 0], x[:, 1:]) if f"cls_token_{m}" in w else (x.mean(1), x)


def features(w: Weights, x: Tensor, m: str, choices: Choices) -> tuple[Tensor, Tensor]:
    """`forward_feat` of one modality."""
    return contrastive_tokens(w, encode(w, tokens(w, x, m, choices.patch), m, choices), m, choices)


def mask(x: Tensor, noise: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Kept tokens, 1 where removed, and the way back."""
    keep = int(x.shape[1] * (1 - ratio))
    shuffle = torch.argsort(noise, dim=1)
    restore = torch.argsort(shuffle, dim=1)
    kept = torch.stack([row[order[:keep]] for row, order in zip(x, shuffle, strict=True)])
    removed = torch.ones(noise.shape)
    removed[:, :keep] = 0
    return kept, torch.gather(removed, 1, restore), restore


def pretrain(
    w: Weights, audio: Tensor, image: Tensor, noise_a: Tensor, noise_v: Tensor, choices: Choices
) -> dict[str, Tensor]:
    """One training forward: losses, embeddings and predictions."""
    kept, removed, restore, encoded, alone = {}, {}, {}, {}, {}
    given = {"a": (audio, noise_a, choices.ratio_audio), "v": (image, noise_v, choices.ratio_image)}
    for m, (x, noise, ratio) in given.items():
        kept[m], removed[m], restore[m] = mask(tokens(w, x, m, choices.patch), noise, ratio)
        encoded[m] = encode(w, kept[m], m, choices)
        alone[m] = contrastive_tokens(w, encoded[m], m, choices)
    num_kept = {m: kept[m].shape[1] for m in "av"}
    latent = joint_latent(w, encoded, num_kept, choices)
    predictions = decode(w, latent, num_kept, restore, choices)
    targets = {
        "a": patchify(audio.transpose(1, 2)[:, None], choices.patch),
        "v": patchify(image, choices.patch),
    }
    mae = {m: mae_loss(predictions[m], targets[m], removed[m], choices.norm_pix) for m in "av"}
    contrast = contrastive(*(alone[m] for m in "av"), choices)
    loss = choices.mae_weight * (mae["a"] + mae["v"]) + choices.contrast_weight * contrast
    return {
        "loss": loss,
        "reconstruction_audio": mae["a"],
        "reconstruction_image": mae["v"],
        "contrastive": contrast,
        "latent": latent,
        "prediction_audio": predictions["a"],
        "prediction_image": predictions["v"],
        "global_audio": alone["a"][0],
        "global_image": alone["v"][0],
        "local_audio": alone["a"][1],
        "local_image": alone["v"][1],
    }


def joint_latent(
    w: Weights, encoded: dict[str, Tensor], num_kept: dict[str, int], choices: Choices
) -> Tensor:
    """Both modalities' patches through the joint blocks; kept registers pass too and are dropped after them."""
    bare = {m: x[:, 1:] if f"cls_token_{m}" in w else x for m, x in encoded.items()}
    x = norm(w, "norm", stack(w, "blocks_u", torch.cat([bare["a"], bare["v"]], dim=1), choices.heads))
    if choices.with_faults:  # registers are taken out where they would be without masking: they stay
        return x
    start = bare["a"].shape[1]
    return torch.cat([x[:, : num_kept["a"]], x[:, start : start + num_kept["v"]]], dim=1)


def decode(
    w: Weights, latent: Tensor, num_kept: dict[str, int], restore: dict[str, Tensor], choices: Choices
) -> dict[str, Tensor]:
    x = linear(w, "decoder_embed", latent)
    whole = []
    for m, seen in (("a", x[:, : num_kept["a"]]), ("v", x[:, num_kept["a"] :])):
        # As many as were masked; after registers that stayed, the last of them are never looked up.
        missing = restore[m].shape[1] - num_kept[m]
        padded = torch.cat([seen, w["mask_token"].repeat(len(x), missing, 1)], dim=1)
        placed = torch.stack([row[order] for row, order in zip(padded, restore[m], strict=True)])
        whole.append(placed + w[f"decoder_pos_embed_{m}"] + w[f"decoder_modality_{m}"])
    x = stack(w, "decoder_blocks", torch.cat(whole, dim=1), choices.decoder_heads)
    x = norm(w, "decoder_norm", x)
    split = restore["a"].shape[1]
    return {"a": linear(w, "decoder_pred_a", x[:, :split]), "v": linear(w, "decoder_pred_v", x[:, split:])}


def mae_loss(prediction: Tensor, target: Tensor, removed: Tensor, norm_pix: bool) -> Tensor:
    if norm_pix:
        target = (target - target.mean(-1, keepdim=True)) / torch.sqrt(target.var(-1, keepdim=True) + 1e-6)
    error = ((prediction - target) ** 2).mean(-1)
    return (error * removed).sum() / removed.sum()


def contrastive(a: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor], choices: Choices) -> Tensor:
    pairs = [(a[0], v[0])]
    if choices.global_local:
        pairs.append((a[1].mean(1), v[1].mean(1)))
    return torch.stack([one_way(*pair) for pair in pairs]).mean()


def one_way(a: Tensor, v: Tensor) -> Tensor:
    """Each image, a column, is classified over the audio segments of the batch."""
    scores = (a / a.norm(dim=1, keepdim=True)) @ (v / v.norm(dim=1, keepdim=True)).T / 0.05
    return -torch.diag(torch.log_softmax(scores, dim=0)).mean()


def classify(
    w: Weights, audio: Tensor | None, image: Tensor | None, mode: str, frames: int, choices: Choices
) -> Tensor:
    """Logits of the published classifiers, for (videos * frames) inputs; `mode` as published.

    Sync's class has its own head or tokens; the two classes differ in the layers that a single modality passes.
    """
    is_sync = "classifier_head.weight" in w or "cls_token_a" in w or "register_tokens" in w
    x = (sync_vector if is_sync else cavmae_vector)(w, audio, image, mode, choices)
    if "classifier_head.weight" not in w:
        return linear(w, "mlp_head.1", norm(w, "mlp_head.0", x))
    x = x.reshape(-1, frames, x.shape[-1])
    x = torch.cat([w["cls_cls_token"].repeat(len(x), 1, 1), x], dim=1)
    return linear(
        w,
        "classifier_head",
        norm(w, "classifier_norm", stack(w, "classifier_layers", x, choices.heads))[:, 0],
    )


def alone_in(
    w: Weights, audio: Tensor | None, image: Tensor | None, mode: str, patch: int
) -> tuple[str, Tensor]:
    m, x = ("a", audio) if "audio" in mode else ("v", image)
    assert x is not None
    return m, tokens(w, x, m, patch)


def missing_vector(w: Weights, x: Tensor, m: str, choices: Choices) -> Tensor:
    x = encode(w, x, m, choices, learned=False)
    plain = norm(w, "norm", stack(w, "blocks_u", x, choices.heads)).mean(1)
    return (plain + norm(w, f"norm_{m}", stack(w, "blocks_u", x, choices.heads, f"_{m}")).mean(1)) / 2


def cavmae_vector(
    w: Weights, audio: Tensor | None, image: Tensor | None, mode: str, choices: Choices
) -> Tensor:
    if mode == "multimodal":
        assert audio is not None
        assert image is not None
        both = [
            encode(w, tokens(w, x, m, choices.patch), m, choices) for m, x in (("a", audio), ("v", image))
        ]
        return norm(w, "norm", stack(w, "blocks_u", torch.cat(both, dim=1), choices.heads)).mean(1)
    m, x = alone_in(w, audio, image, mode, choices.patch)
    if mode.startswith("missing"):
        return missing_vector(w, x, m, choices)
    x = encode(w, x, m, choices)
    return norm(w, f"norm_{m}", stack(w, "blocks_u", x, choices.heads, f"_{m}")).mean(1)


def sync_vector(
    w: Weights, audio: Tensor | None, image: Tensor | None, mode: str, choices: Choices
) -> Tensor:
    has_global = "cls_token_a" in w
    if mode == "multimodal":
        assert audio is not None
        assert image is not None
        both = [
            encode(w, tokens(w, x, m, choices.patch), m, choices) for m, x in (("a", audio), ("v", image))
        ]
        return torch.cat([x[:, 0] if has_global else x.mean(1) for x in both], dim=1)
    m, x = alone_in(w, audio, image, mode, choices.patch)
    if mode.startswith("missing"):
        return missing_vector(w, x, m, choices)
    x = norm(w, "norm", stack(w, "blocks_u", encode(w, x, m, choices), choices.heads))
    return x[:, 0] if has_global and "mlp_head.1.weight" in w else x.mean(1)
