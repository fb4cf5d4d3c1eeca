"""CAV-MAE Sync: a window of sound and a picture, masked, encoded apart, joined, and reconstructed.

Read from top to bottom, this is the path of a batch. Parameters keep upstream's names ("a" audio, "v" visual,
"u" united), so that published weights load; `constrative` is upstream's spelling.
"""

from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from cavsync.model.blocks import Block, JointBlock, Modality
from cavsync.model.config import ModelConfig
from cavsync.model.losses import contrastive_loss, reconstruction_loss, total_loss
from cavsync.model.masking import Mask, draw_mask, strike, take
from cavsync.model.output import Encoding, Output
from cavsync.model.patches import patchify, spectrogram
from cavsync.model.positions import position_table

# Standard deviation of learned tokens at the start, as in MAE.
TOKEN_STD = 0.02


class CavMaeSync(nn.Module):
    """The model of a `ModelConfig`, freshly initialised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._build_encoders(config)
        self._build_decoder(config)
        self._initialise()

    def _build_encoders(self, config: ModelConfig) -> None:
        dim, patch = config.embed_dim, config.patch_size
        sizes = (dim, config.num_heads, config.mlp_ratio)
        self.patch_embed_a = PatchEmbed(None, patch, 1, dim)
        self.patch_embed_v = PatchEmbed(None, patch, 3, dim)
        self.pos_embed_a = _frozen(position_table(dim, config.audio_grid))
        self.pos_embed_v = _frozen(position_table(dim, config.image_grid))
        self.modality_a, self.modality_v = _token(dim), _token(dim)
        if config.global_tokens != "none":
            self.cls_token_a, self.cls_token_v = _token(dim), _token(dim)
        if config.global_tokens == "per-task":
            self.cls_token_reconstruction_a, self.cls_token_reconstruction_v = _token(dim), _token(dim)
        if config.num_registers:
            self.register_tokens = nn.Parameter(torch.empty(2 * config.num_registers, dim))  # audio's first
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

    def _build_decoder(self, config: ModelConfig) -> None:
        dim, patch_values = config.decoder_dim, config.patch_size**2
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = _token(dim)
        self.decoder_pos_embed_a = _frozen(position_table(dim, config.audio_grid))
        self.decoder_pos_embed_v = _frozen(position_table(dim, config.image_grid))
        self.decoder_modality_a, self.decoder_modality_v = _token(dim), _token(dim)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, config.mlp_ratio) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_pred_a = nn.Linear(dim, patch_values)
        self.decoder_pred_v = nn.Linear(dim, patch_values * 3)

    def _initialise(self) -> None:
        """Upstream's start: xavier for matrices, 0.02 for tokens, 1 for registers; norms are born 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for patch_embed in (self.patch_embed_a, self.patch_embed_v):
            nn.init.xavier_uniform_(patch_embed.proj.weight.flatten(1))  # as the matrix that it is
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=1.0 if name == "register_tokens" else TOKEN_STD)

    def forward(
        self,
        audio: Tensor,
        image: Tensor,
        noise_audio: Tensor | None = None,
        noise_image: Tensor | None = None,
    ) -> Output:
        """Losses and all that led to them, for normalised log-mels and pictures.

        `audio` is (batch, time, mels), `image` (batch, 3, height, width). `noise_audio` and `noise_image`,
        (batch, patches) uniform in [0, 1), decide which patches are removed; without them they are drawn.
        """
        seen_audio, seen_image = self._embed_audio(audio), self._embed_image(image)
        if len(audio) != len(image):
            raise ValueError(
                f"{len(audio)} sounds came with {len(image)} pictures: pass one of each for a clip"
            )
        mask_audio, mask_image = self._draw_masks(seen_audio, seen_image, noise_audio, noise_image)
        tokens_audio = self._encode(mask_audio.pick(seen_audio), "a")
        tokens_image = self._encode(mask_image.pick(seen_image), "v")

        encoding_audio, encoding_image = self._alone(tokens_audio, "a"), self._alone(tokens_image, "v")
        embedding_audio, embedding_image = self._embedding(encoding_audio), self._embedding(encoding_image)
        latent_audio, latent_image = self._together(tokens_audio, tokens_image)
        full_audio = mask_audio.fill(self.decoder_embed(latent_audio), self.mask_token)
        full_image = mask_image.fill(self.decoder_embed(latent_image), self.mask_token)
        prediction_audio, prediction_image = self._decode(full_audio, full_image)

        config = self.config
        contrast = contrastive_loss(
            embedding_audio, embedding_image, config.temperature, config.contrastive_direction
        )
        reconstruction_audio = self._reconstruction(prediction_audio, spectrogram(audio), mask_audio)
        reconstruction_image = self._reconstruction(prediction_image, image, mask_image)
        return Output(
            loss=total_loss(config, reconstruction_audio, reconstruction_image, contrast.loss),
            reconstruction_audio=reconstruction_audio,
            reconstruction_image=reconstruction_image,
            contrastive=contrast.loss,
            contrastive_accuracy=contrast.accuracy,
            embedding_audio=embedding_audio,
            embedding_image=embedding_image,
            mask_audio=mask_audio,
            mask_image=mask_image,
            encoding_audio=encoding_audio,
            encoding_image=encoding_image,
            latent=torch.cat([latent_audio, latent_image], dim=1),
            prediction_audio=prediction_audio,
            prediction_image=prediction_image,
        )

    def encode_audio(self, audio: Tensor, kept: Tensor | None = None) -> Encoding:
        """What (batch, time, mels) log-mels say by themselves, `patches` as (batch, frequency, time, dim).

        `kept`, (batch, kept) indices, shows the encoder those patches alone, as in training; `patches` is then
        (batch, kept, dim). One clip may be seen in many views: a batch of 1 serves every row of `kept`.
        """
        return self._view(self._embed_audio(audio), "a", self.config.audio_grid, kept)

    def encode_image(self, image: Tensor, kept: Tensor | None = None) -> Encoding:
        """What (batch, 3, height, width) pictures say by themselves, `patches` as (batch, rows, columns, dim).

        `kept` is as for `encode_audio`.
        """
        return self._view(self._embed_image(image), "v", self.config.image_grid, kept)

    def _view(
        self, patches: Tensor, modality: Modality, grid: tuple[int, int], kept: Tensor | None
    ) -> Encoding:
        if kept is not None:
            seen = take(patches.expand(len(kept), -1, -1), kept)
            return self._alone(self._encode(seen, modality), modality)
        encoding = self._alone(self._encode(patches, modality), modality)
        return Encoding(encoding.global_token, encoding.patches.reshape(len(patches), *grid, -1))

    def _embed_audio(self, audio: Tensor) -> Tensor:
        """(batch, time, mels) -> (batch, patches, dim), time running fastest."""
        _check_shape("audio", audio, (self.config.audio_rows, self.config.num_mels), "audio_rows")
        patches: Tensor = self.patch_embed_a(spectrogram(audio))
        return patches + self.pos_embed_a + self.modality_a

    def _embed_image(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) -> (batch, patches, dim), row by row."""
        _check_shape("image", image, (3, self.config.image_size, self.config.image_size), "image_size")
        patches: Tensor = self.patch_embed_v(image)
        return patches + self.pos_embed_v + self.modality_v

    def _draw_masks(
        self, audio: Tensor, image: Tensor, noise_audio: Tensor | None, noise_image: Tensor | None
    ) -> tuple[Mask, Mask]:
        """The masks of (batch, patches, dim) audio and image patches; audio's noise is drawn first."""
        config = self.config
        noise = _noise("noise_audio", noise_audio, audio)
        struck = strike(noise, config.audio_grid, config.mask_ratio_audio, config.audio_mask_mode)
        mask_audio = draw_mask(struck, config.mask_ratio_audio)
        return mask_audio, draw_mask(_noise("noise_image", noise_image, image), config.mask_ratio_image)

    def _encode(self, patches: Tensor, modality: Modality) -> Tensor:
        """(batch, patches, dim) -> (batch, global tokens + patches, dim) after the modality's own blocks."""
        front, back = self._learned_tokens(modality)
        x = torch.cat([part.expand(len(patches), -1, -1) for part in (*front, patches, *back)], dim=1)
        for block in self._part("blocks", modality):
            x = block(x)
        return x[:, : x.shape[1] - self.config.num_registers]

    def _learned_tokens(self, modality: Modality) -> tuple[list[Tensor], list[Tensor]]:
        """The global tokens, which stand in front of the patches, and the registers, which stand behind."""
        names = ("cls_token", "cls_token_reconstruction")[: self.config.num_global_tokens]
        front = [self._part(name, modality) for name in names]
        if not self.config.num_registers:
            return front, []
        audio, image = self.register_tokens.unsqueeze(0).chunk(2, dim=1)
        return front, [audio if modality == "a" else image]

    def _alone(self, tokens: Tensor, modality: Modality) -> Encoding:
        """The contrastive branch: one modality through the joint blocks, without the reconstruction's token."""
        if self.config.num_global_tokens == 2:
            tokens = torch.cat([tokens[:, :1], tokens[:, 2:]], dim=1)
        for block in self.blocks_u:
            tokens = block(tokens, modality)
        for block in self.constrative_head_audio if modality == "a" else self.constrative_head_visual:
            tokens = block(tokens)
        tokens = self._part("norm", modality)(tokens)
        if self.config.num_global_tokens == 0:
            return Encoding(tokens.mean(dim=1), tokens)
        return Encoding(tokens[:, 0], tokens[:, 1:])

    def _together(self, audio: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction's branch: both modalities through the joint blocks, without contrastive tokens.

        Returns the patches of each, (batch, kept, dim): the token of this branch has then done its work.
        """
        contrastive = min(self.config.num_global_tokens, 1)
        sequences = [audio[:, contrastive:], image[:, contrastive:]]
        x = torch.cat(sequences, dim=1)
        for block in self.blocks_u:
            x = block(x)
        audio, image = self.norm(x).split([s.shape[1] for s in sequences], dim=1)
        own = self.config.num_global_tokens - contrastive
        return audio[:, own:], image[:, own:]

    def _decode(self, audio: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, patches, decoder_dim) of each, blanks filled in -> (batch, patches, values) of each."""
        audio = audio + self.decoder_pos_embed_a + self.decoder_modality_a
        image = image + self.decoder_pos_embed_v + self.decoder_modality_v
        x = torch.cat([audio, image], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        audio, image = self.decoder_norm(x).split([audio.shape[1], image.shape[1]], dim=1)
        return self.decoder_pred_a(audio), self.decoder_pred_v(image)

    def _embedding(self, encoding: Encoding) -> Tensor:
        """(batch, dim), or (batch, 2, dim) where the mean of the patches is compared too."""
        if not self.config.global_local_losses:
            return encoding.global_token
        return torch.stack([encoding.global_token, encoding.patches.mean(dim=1)], dim=1)

    def _reconstruction(self, prediction: Tensor, picture: Tensor, mask: Mask) -> Tensor:
        target = patchify(picture, self.config.patch_size)
        return reconstruction_loss(prediction, target, mask.removed, self.config.norm_pix)

    def _part(self, name: str, modality: Modality) -> Any:
        """A part of one modality: upstream keeps them side by side, under names that end in its letter."""
        return getattr(self, f"{name}_{modality}")


def _frozen(table: Tensor) -> nn.Parameter:
    return nn.Parameter(table, requires_grad=False)


def _token(dim: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(1, 1, dim))


def _noise(name: str, noise: Tensor | None, patches: Tensor) -> Tensor:
    """The noise given, or a uniform draw of shape (batch, patches)."""
    shape = patches.shape[:2]
    if noise is None:
        return torch.rand(shape, device=patches.device)
    if noise.shape != shape:
        raise ValueError(f"{name} has shape {tuple(noise.shape)}, the patches need {tuple(shape)}")
    return noise


def _check_shape(name: str, batch: Tensor, item: tuple[int, ...], field: str) -> None:
    if batch.ndim != len(item) + 1 or batch.shape[1:] != item:
        wanted = ", ".join(["batch", *map(str, item)])
        raise ValueError(
            f"{name} has shape {tuple(batch.shape)}, this model takes ({wanted}); "
            f"for another size build or load it with {field}=..."
        )
