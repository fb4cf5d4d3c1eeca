"""The floating-point operations that training on a clip needs, counted from the sizes of a model, with the
contrast's own view and the teacher where a run has them.

A product of (m, k) and (k, n) matrices is 2 m k n operations; its backward is two such products. Attention is counted as
the products that it is, whatever kernel computes it, and what a kernel or activation checkpointing computes again is
not counted. Norms, activations and the optimizer are left out: they are under a hundredth, and move bytes.
"""

from cavsync.model.config import ModelConfig, num_kept
from cavsync.train.pretrain.config import PretrainConfig

FORWARD_AND_BACKWARD = 3


def flops_of_a_clip(config: PretrainConfig) -> int:
    """Of a step of pretraining, forward and backward, without the comparison with other clips."""
    model = config.model
    dim, patch = model.embed_dim, model.patch_size**2
    kept_audio = num_kept(model.num_audio_patches, model.mask_ratio_audio)
    kept_image = num_kept(model.num_image_patches, model.mask_ratio_image)
    compared = min(model.num_global_tokens, 1)
    joint = kept_audio + kept_image + 2 * (model.num_global_tokens - compared + model.num_late_registers)
    forward = model.joint_depth * _block(joint, dim, model.mlp_ratio)
    forward += sum(_encoders(model, kept) for kept in (kept_audio, kept_image))
    view = config.contrast_view
    seen = [kept_audio, kept_image]
    if view.own:
        seen = [
            num_kept(model.num_audio_patches, view.mask_ratio_audio),
            num_kept(model.num_image_patches, view.mask_ratio_image),
        ]
        forward += sum(_encoders(model, kept) for kept in seen)
    heads = model.contrastive_head_depth
    forward += sum(_alone(model, kept, model.joint_depth + heads) for kept in seen)
    patches = model.num_audio_patches + model.num_image_patches
    values = model.num_audio_patches * patch + model.num_image_patches * patch * 3
    forward += _product(kept_audio + kept_image, dim, model.decoder_dim)
    forward += model.decoder_depth * _block(patches, model.decoder_dim, model.mlp_ratio)
    forward += _product(1, model.decoder_dim, values)
    # Pixels have no gradient, so the patches' products have one product in their backward.
    return FORWARD_AND_BACKWARD * forward + 2 * _product(1, dim, values) + _teacher(config)


def _teacher(config: PretrainConfig) -> int:
    """Its forward over whole inputs, which nothing goes back through."""
    if config.teacher.momentum is None:
        return 0
    model, patch = config.model, config.model.patch_size**2
    forward = 0
    for patches, channels in ((model.num_audio_patches, 1), (model.num_image_patches, 3)):
        forward += _product(patches, patch * channels, model.embed_dim) + _encoders(model, patches)
        forward += _alone(model, patches, model.joint_depth)
        if config.needs_priority:
            tokens = _tokens_alone(model, patches)
            queries = 1 if config.teacher.priority == "global-to-patch" else tokens
            forward += _product(tokens, model.embed_dim, 3 * model.embed_dim)
            forward += _product(queries, model.embed_dim, tokens)
    return forward


def _encoders(model: ModelConfig, patches: int) -> int:
    """The forward of one modality's own blocks."""
    tokens = model.num_global_tokens + patches + model.num_registers
    return model.encoder_depth * _block(tokens, model.embed_dim, model.mlp_ratio)


def _alone(model: ModelConfig, patches: int, depth: int) -> int:
    """The forward of `depth` blocks over one modality alone, after its own blocks."""
    return depth * _block(_tokens_alone(model, patches), model.embed_dim, model.mlp_ratio)


def _tokens_alone(model: ModelConfig, patches: int) -> int:
    return min(model.num_global_tokens, 1) + patches + model.num_late_registers


def _block(tokens: int, dim: int, mlp_ratio: float) -> int:
    """The forward of a transformer block: queries, keys, values and output; attention; the MLP."""
    attention = 2 * _product(tokens, dim, tokens)
    return _product(tokens, dim, 4 * dim) + attention + 2 * _product(tokens, dim, int(dim * mlp_ratio))


def _product(rows: int, inner: int, columns: int) -> int:
    return 2 * rows * inner * columns
