"""The encoders of audio and images and the joint blocks, which pretraining and classifiers share.

In order of the data: patches with positions, the blocks of each modality, then the joint blocks on one of two paths:
the contrastive one for each modality alone, the joint one for both together.

Parameters keep upstream's names ("a" audio, "v" visual, "u" united), so that published weights load;
`constrative` is upstream's spelling.
"""

from dataclasses import replace
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from cavsync.model.blocks import Block, JointBlock, ModalityLetter
from cavsync.model.config import ModelConfig, PriorityDirection
from cavsync.model.errors import InputShapeError, ModelConfigError
from cavsync.model.masking import take
from cavsync.model.output import Encoding, Guidance
from cavsync.model.patches import frozen_table, spectrogram

# Standard deviation of the initial learned tokens, as in MAE.
TOKEN_STD = 0.02


class Encoder(nn.Module):
    """The base of every model; a subclass adds its layers and calls `_initialise`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = config.embed_dim, config.patch_size
        sizes = (dim, config.num_heads, config.mlp_ratio)
        # Patches, positions and modalities.
        self.patch_embed_a = PatchEmbed(None, patch, 1, dim)
        self.patch_embed_v = PatchEmbed(None, patch, 3, dim)
        self.pos_embed_a = frozen_table(dim, config.audio_grid)
        self.pos_embed_v = frozen_table(dim, config.image_grid)
        self.modality_a, self.modality_v = new_token(dim), new_token(dim)
        # Learned tokens beside the patches.
        if config.global_tokens != "none":
            self.cls_token_a, self.cls_token_v = new_token(dim), new_token(dim)
        if config.global_tokens == "per-task":
            self.cls_token_reconstruction_a, self.cls_token_reconstruction_v = new_token(dim), new_token(dim)
        if config.num_registers:
            self.register_tokens = nn.Parameter(torch.empty(2 * config.num_registers, dim))  # audio's first
        # Blocks of each modality, joint blocks, contrastive heads.
        self.blocks_a = nn.ModuleList(Block(*sizes) for _ in range(config.encoder_depth))
        self.blocks_v = nn.ModuleList(Block(*sizes) for _ in range(config.encoder_depth))
        self.blocks_u = nn.ModuleList(JointBlock(*sizes) for _ in range(config.joint_depth))
        self.constrative_head_audio = nn.ModuleList(
            Block(*sizes) for _ in range(config.contrastive_head_depth)
        )
        self.constrative_head_visual = nn.ModuleList(
            Block(*sizes) for _ in range(config.contrastive_head_depth)
        )
        self.norm_a, self.norm_v, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def _initialise(self) -> None:
        """Upstream's initial weights: xavier for matrices, deviation 0.02 for tokens and 1 for registers."""
        # The meta device holds no values; a third of building a model for a file would go there.
        if self.modality_a.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for patch_embed in (self.patch_embed_a, self.patch_embed_v):
            nn.init.xavier_uniform_(patch_embed.proj.weight.flatten(1))  # as the matrix that it is
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=1.0 if name == "register_tokens" else TOKEN_STD)

    def encode_audio(self, audio: Tensor, kept: Tensor | None = None) -> Encoding:
        """Encodes (batch, time, mels) log-mels without images; `patches` are (batch, frequency, time, dim).

        `kept`, (batch, kept) indices, limits the encoder to those patches, as in training; `patches` are then
        (batch, kept, dim). A batch of 1 serves every row of `kept`, so that one clip is encoded in many views.
        """
        return self._view(self._embed_audio(audio), "a", self.config.audio_grid, kept)

    def encode_image(self, image: Tensor, kept: Tensor | None = None) -> Encoding:
        """Encodes (batch, 3, height, width) images without audio; `patches` are (batch, rows, columns, dim).

        `kept` is as for `encode_audio`.
        """
        return self._view(self._embed_image(image), "v", self.config.image_grid, kept)

    def audio_embedding(self, audio: Tensor, kept: Tensor | None = None) -> Tensor:
        """`encode_audio(...).global_token`, (batch, dim), without what only the patches need of the last block.

        The values are the same but for the order of sums.
        """
        return self._global_token(self._embed_audio(audio), "a", kept)

    def image_embedding(self, image: Tensor, kept: Tensor | None = None) -> Tensor:
        """`encode_image(...).global_token`, as `audio_embedding`."""
        return self._global_token(self._embed_image(image), "v", kept)

    def guide_audio(self, audio: Tensor, direction: PriorityDirection | None) -> Guidance:
        """What this model, as a teacher, says on whole (batch, time, mels) log-mels; None computes no priority."""
        return self._guide(self._embed_audio(audio), "a", direction)

    def guide_image(self, image: Tensor, direction: PriorityDirection | None) -> Guidance:
        """What this model, as a teacher, says on whole (batch, 3, height, width) images; None computes no priority."""
        return self._guide(self._embed_image(image), "v", direction)

    def _view(
        self, patches: Tensor, modality: ModalityLetter, grid: tuple[int, int], kept: Tensor | None
    ) -> Encoding:
        """(batch, patches, dim) of a grid, all of them or those `kept`, through the contrastive path."""
        if kept is not None:
            return self._forward_contrastive(self._encode(_visible(patches, kept), modality), modality)
        encoding = self._forward_contrastive(self._encode(patches, modality), modality)
        dim = self.config.embed_dim
        in_grid = encoding.patches.reshape(-1, *grid, dim)  # (batch, rows, columns, dim)
        return replace(encoding, patches=in_grid)

    def _global_token(self, patches: Tensor, modality: ModalityLetter, kept: Tensor | None) -> Tensor:
        """(batch, patches, dim) of a grid, all of them or those `kept` -> (batch, dim)."""
        tokens = self._encode(patches if kept is None else _visible(patches, kept), modality)
        if self.config.num_global_tokens == 0:  # the mean of the patches needs them all
            return self._forward_contrastive(tokens, modality).global_token
        tokens, head = self._contrastive_tokens(tokens), self._contrastive_head(modality)
        if not head:
            for block in self.blocks_u[:-1]:
                tokens = block(tokens, modality)
            last: Any = self.blocks_u[-1]
            return self._normalised(last.first_token(tokens, modality)[:, 0], modality)
        tokens = self._joint_blocks(tokens, modality)
        for block in head[:-1]:
            tokens = block(tokens)
        last = head[-1]
        return self._normalised(last.first_token(tokens)[:, 0], modality)

    def _guide(
        self, patches: Tensor, modality: ModalityLetter, direction: PriorityDirection | None
    ) -> Guidance:
        """(batch, patches, dim) -> the global token, and the attention of the last joint block, on its own input."""
        if direction is not None and self.config.num_global_tokens == 0:
            raise ModelConfigError('priorities need global_tokens="contrastive" or "per-task"')
        tokens = self._contrastive_tokens(self._encode(patches, modality))
        for block in self.blocks_u[:-1]:
            tokens = block(tokens, modality)
        last: Any = self.blocks_u[-1]
        priority = None
        if direction is not None:
            # The global token comes first, registers that stay come last.
            priority = last.global_attention(tokens, modality, direction)[:, 1 : 1 + patches.shape[1]]
        return Guidance(self._pooled(last(tokens, modality), modality)[0], priority)

    def _embed_audio(self, audio: Tensor) -> Tensor:
        """(batch, time, mels) -> (batch, patches, dim), in rows of equal frequency."""
        _check_shape("audio", audio, (self.config.audio_rows, self.config.num_mels), "audio_rows")
        patches: Tensor = self.patch_embed_a(spectrogram(audio))
        return patches + self.pos_embed_a + self.modality_a

    def _embed_image(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) -> (batch, patches, dim), row by row."""
        _check_shape("image", image, (3, self.config.image_size, self.config.image_size), "image_size")
        patches: Tensor = self.patch_embed_v(image)
        return patches + self.pos_embed_v + self.modality_v

    def _encode(self, patches: Tensor, modality: ModalityLetter, learned: bool = True) -> Tensor:
        """(batch, patches, dim) -> (batch, tokens, dim) after the modality's own blocks.

        `learned` adds the learned tokens: global ones before the patches, and after them the registers that stay.
        """
        front, back = self._learned_tokens(modality) if learned else ([], [])
        batch = patches.shape[0]  # len() would fix the batch size of an exported encoder
        x = torch.cat([part.expand(batch, -1, -1) for part in (*front, patches, *back)], dim=1)
        for block in self._part("blocks", modality):
            x = block(x)
        return x if self.config.keep_registers or not learned else without_last(x, self.config.num_registers)

    def _learned_tokens(self, modality: ModalityLetter) -> tuple[list[Tensor], list[Tensor]]:
        """The global tokens, (1, 1, dim) each, before the patches, and the registers, (1, registers, dim), after."""
        names = ("cls_token", "cls_token_reconstruction")[: self.config.num_global_tokens]
        front = [self._part(name, modality) for name in names]
        if not self.config.num_registers:
            return front, []
        audio, image = self.register_tokens.unsqueeze(0).chunk(2, dim=1)
        return front, [audio if modality == "a" else image]

    def _forward_contrastive(self, tokens: Tensor, modality: ModalityLetter) -> Encoding:
        """(batch, tokens, dim) of one modality alone through the joint blocks, without the reconstruction's token."""
        tokens = joint = self._joint_blocks(self._contrastive_tokens(tokens), modality)
        for block in self._contrastive_head(modality):
            tokens = block(tokens)
        global_token, patches = self._pooled(tokens, modality)
        if not self.config.contrastive_head_depth:
            return Encoding(global_token, patches)
        return Encoding(global_token, patches, self._pooled(joint, modality)[0])

    def _contrastive_tokens(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) without the global token that only the reconstruction uses."""
        if self.config.num_global_tokens < 2:
            return tokens
        return torch.cat([tokens[:, :1], tokens[:, 2:]], dim=1)

    def _pooled(self, tokens: Tensor, modality: ModalityLetter) -> tuple[Tensor, Tensor]:
        """(batch, tokens, dim) -> the global token (batch, dim) and the patches (batch, patches, dim), normalised."""
        tokens = self._normalised(without_last(tokens, self.config.num_late_registers), modality)
        if self.config.num_global_tokens == 0:
            return tokens.mean(dim=1), tokens
        return tokens[:, 0], tokens[:, 1:]

    def _contrastive_head(self, modality: ModalityLetter) -> nn.ModuleList:
        """The blocks between the joint ones and the embedding, none in the released model."""
        return self.constrative_head_audio if modality == "a" else self.constrative_head_visual

    def _normalised(self, tokens: Tensor, modality: ModalityLetter) -> Tensor:
        """(..., dim) by the last norm of one modality."""
        normalised: Tensor = self._part("norm", modality)(tokens)
        return normalised

    def _forward_joint(self, audio: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, tokens, dim) of each through the joint blocks together, without contrastive tokens.

        Returns the patches of each, (batch, kept, dim).
        """
        contrastive = min(self.config.num_global_tokens, 1)
        audio, image = audio[:, contrastive:], image[:, contrastive:]
        x = self.norm(self._joint_blocks(torch.cat([audio, image], dim=1), None))
        audio, image = x.split([audio.shape[1], image.shape[1]], dim=1)
        own = self.config.num_global_tokens - contrastive  # the reconstruction's tokens
        registers = self.config.num_late_registers
        return without_last(audio[:, own:], registers), without_last(image[:, own:], registers)

    def _joint_blocks(self, tokens: Tensor, modality: ModalityLetter | None) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, dim), with the norms of one modality, or with None of both."""
        for block in self.blocks_u:
            tokens = block(tokens, modality)
        return tokens

    def _part(self, name: str, modality: ModalityLetter) -> Any:
        """The layer or parameter of one modality: upstream's names end in its letter."""
        return getattr(self, f"{name}_{modality}")


def new_token(dim: int) -> nn.Parameter:
    """A learned token, (1, 1, dim), not yet initialised."""
    return nn.Parameter(torch.empty(1, 1, dim))


def without_last(tokens: Tensor, count: int) -> Tensor:
    """(batch, tokens, dim) -> (batch, tokens - count, dim)."""
    return tokens[:, : tokens.shape[1] - count]


def _visible(patches: Tensor, kept: Tensor) -> Tensor:
    """(batch, patches, dim) -> (rows of `kept`, kept, dim); a batch of 1 serves every row."""
    return take(patches.expand(len(kept), -1, -1), kept)


def _check_shape(name: str, batch: Tensor, item: tuple[int, ...], field: str) -> None:
    """InputShapeError unless `batch` is (batch, *item)."""
    if batch.ndim != len(item) + 1 or batch.shape[1:] != item:
        wanted = ", ".join(["batch", *map(str, item)])
        raise InputShapeError(
            f"{name} has shape {tuple(batch.shape)}, this model takes ({wanted}); "
            f"for another size build or load it with {field}=..."
        )
