"""The floating-point operations that training on a clip needs, counted from the sizes of a model.

A product of (m, k) and (k, n) matrices is 2 m k n operations; its backward is two such products. Attention is counted as
the products that it is, whatever kernel computes it, and what a kernel or activation checkpointing computes again is
not counted. Norms, activations and the optimizer are left out: they are under a hundredth, and move bytes.
"""

from cavsync.model.config import ModelConfig, num_kept

FORWARD_AND_BACKWARD = 3


def flops_of_a_clip(model: ModelConfig) -> int:
    """Of a step of pretraining, forward and backward, without the comparison with other clips."""
    dim, patch = model.embed_dim, model.patch_size**2
    kept_audio = num_kept(model.num_audio_patches, model.mask_ratio_audio)
    kept_image = num_kept(model.num_image_patches, model.mask_ratio_image)
    compared = min(model.num_global_tokens, 1)
    joint = kept_audio + kept_image + 2 * (model.num_global_tokens - compared + model.num_late_registers)
    forward = model.joint_depth * _block(joint, dim, model.mlp_ratio)
    for kept in (kept_audio, kept_image):
        encoded = model.num_global_tokens + kept + model.num_registers
        alone = compared + kept + model.num_late_registers
        forward += model.encoder_depth * _block(encoded, dim, model.mlp_ratio)
        forward += (model.joint_depth + model.contrastive_head_depth) * _block(alone, dim, model.mlp_ratio)
    patches = model.num_audio_patches + model.num_image_patches
    values = model.num_audio_patches * patch + model.num_image_patches * patch * 3
    forward += _product(kept_audio + kept_image, dim, model.decoder_dim)
    forward += model.decoder_depth * _block(patches, model.decoder_dim, model.mlp_ratio)
    forward += _product(1, model.decoder_dim, values)
    # Pixels have no gradient, so the patches' products have one product in their backward.
    return FORWARD_AND_BACKWARD * forward + 2 * _product(1, dim, values)


def _block(tokens: int, dim: int, mlp_ratio: float) -> int:
    """The forward of a transformer block: queries, keys, values and output; attention; the MLP."""
    attention = 2 * _product(tokens, dim, tokens)
    return _product(tokens, dim, 4 * dim) + attention + 2 * _product(tokens, dim, int(dim * mlp_ratio))


def _product(rows: int, inner: int, columns: int) -> int:
    return 2 * rows * inner * columns
