"""CAV-MAE Sync: a window of sound and a picture, masked, encoded apart, joined, and reconstructed.

Read from top to bottom, this is the path of a batch; `encoder.py` holds its first half.
"""

import torch
from torch import Tensor, nn

from cavsync.model.blocks import Block
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import Encoder, frozen_table, new_token
from cavsync.model.losses import contrastive_loss, reconstruction_loss, total_loss
from cavsync.model.masking import Mask, draw_mask, strike
from cavsync.model.output import Encoding, Output
from cavsync.model.patches import patchify, spectrogram


class CavMaeSync(Encoder):
    """The model of a `ModelConfig`, freshly initialised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._build_decoder(config)
        self._initialise()

    def _build_decoder(self, config: ModelConfig) -> None:
        dim, patch_values = config.decoder_dim, config.patch_size**2
        self.decoder_embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = new_token(dim)
        self.decoder_pos_embed_a = frozen_table(dim, config.audio_grid)
        self.decoder_pos_embed_v = frozen_table(dim, config.image_grid)
        self.decoder_modality_a, self.decoder_modality_v = new_token(dim), new_token(dim)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, config.decoder_num_heads, config.mlp_ratio) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_pred_a = nn.Linear(dim, patch_values)
        self.decoder_pred_v = nn.Linear(dim, patch_values * 3)

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

    def _draw_masks(
        self, audio: Tensor, image: Tensor, noise_audio: Tensor | None, noise_image: Tensor | None
    ) -> tuple[Mask, Mask]:
        """The masks of (batch, patches, dim) audio and image patches; audio's noise is drawn first."""
        config = self.config
        noise = _noise("noise_audio", noise_audio, audio)
        struck = strike(noise, config.audio_grid, config.mask_ratio_audio, config.audio_mask_mode)
        mask_audio = draw_mask(struck, config.mask_ratio_audio)
        return mask_audio, draw_mask(_noise("noise_image", noise_image, image), config.mask_ratio_image)

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


def _noise(name: str, noise: Tensor | None, patches: Tensor) -> Tensor:
    """The noise given, or a uniform draw of shape (batch, patches)."""
    shape = patches.shape[:2]
    if noise is None:
        return torch.rand(shape, device=patches.device)
    if noise.shape != shape:
        raise ValueError(f"{name} has shape {tuple(noise.shape)}, the patches need {tuple(shape)}")
    return noise
