"""CAV-MAE Sync: an audio segment and an image are masked, encoded, compared, joined and reconstructed.

`forward` is the paper's figure, from the inputs to what the losses are made from; `encoder.py` holds its first half, which
classifiers share.
"""

import torch
from torch import Tensor, nn

from cavsync.model.blocks import Block
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import Encoder, new_token
from cavsync.model.errors import InputShapeError
from cavsync.model.losses import reconstruction_loss
from cavsync.model.masking import Mask, draw_mask, mask_lines, take
from cavsync.model.output import Encoding, Output
from cavsync.model.patches import frozen_table, patchify, spectrogram


class CavMaeSync(Encoder):
    """The pretraining model of a `ModelConfig`, with random weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
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
        self._initialise()

    def forward(
        self,
        audio: Tensor,
        image: Tensor,
        noise_audio: Tensor | None = None,
        noise_image: Tensor | None = None,
        kept_audio: Tensor | None = None,
        kept_image: Tensor | None = None,
    ) -> Output:
        """Losses, and every stage that led to them, of normalised log-mels and images.

        `audio` is (batch, time, mels), `image` (batch, 3, height, width). `noise_audio` and `noise_image`,
        (batch, patches) uniform in [0, 1), decide which patches are removed; without them they are drawn.

        `kept_audio` and `kept_image`, (batch, kept) indices of patches, give the contrast a view of its own: the
        patches that it sees, through a pass of its own. Without them it sees those of the reconstruction, in one pass.
        """
        # Mask and encode each modality: (batch, patches, dim) -> (batch, global tokens + kept patches, dim).
        patches_audio, patches_image = self._embed_audio(audio), self._embed_image(image)
        mask_audio, mask_image = self._draw_masks(audio, image, noise_audio, noise_image)
        tokens_audio = self._encode(mask_audio.pick(patches_audio), "a")
        tokens_image = self._encode(mask_image.pick(patches_image), "v")

        # Compare the modalities, each alone through the joint blocks: (batch, dim).
        view_audio = (
            tokens_audio if kept_audio is None else self._encode(take(patches_audio, kept_audio), "a")
        )
        view_image = (
            tokens_image if kept_image is None else self._encode(take(patches_image, kept_image), "v")
        )
        encoding_audio = self._forward_contrastive(view_audio, "a")
        encoding_image = self._forward_contrastive(view_image, "v")

        # Reconstruct the removed patches from both together: (batch, kept, dim) -> (batch, patches, values).
        latent_audio, latent_image = self._forward_joint(tokens_audio, tokens_image)
        prediction_audio, prediction_image = self._forward_decoder(
            latent_audio, latent_image, mask_audio, mask_image
        )
        reconstruction_audio = self._reconstruction(prediction_audio, spectrogram(audio), mask_audio)
        reconstruction_image = self._reconstruction(prediction_image, image, mask_image)
        return Output(
            config=self.config,
            reconstruction_audio=reconstruction_audio,
            reconstruction_image=reconstruction_image,
            embedding_audio=self._embedding(encoding_audio),
            embedding_image=self._embedding(encoding_image),
            mask_audio=mask_audio,
            mask_image=mask_image,
            encoding_audio=encoding_audio,
            encoding_image=encoding_image,
            latent=torch.cat([latent_audio, latent_image], dim=1),
            prediction_audio=prediction_audio,
            prediction_image=prediction_image,
        )

    def contrastive_embeddings(
        self,
        audio: Tensor,
        image: Tensor,
        noise_audio: Tensor | None = None,
        noise_image: Tensor | None = None,
        kept_audio: Tensor | None = None,
        kept_image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The audio and image embeddings that `forward` compares, without the work of the reconstruction.

        Arguments are those of `forward`. Each embedding is (batch, dim), or (batch, 2, dim) with
        `global_local_losses`.
        """
        if kept_audio is None or kept_image is None:
            mask_audio, mask_image = self._draw_masks(audio, image, noise_audio, noise_image)
            kept_audio = mask_audio.kept if kept_audio is None else kept_audio
            kept_image = mask_image.kept if kept_image is None else kept_image
        encoding_audio = self.encode_audio(audio, kept_audio)
        encoding_image = self.encode_image(image, kept_image)
        return self._embedding(encoding_audio), self._embedding(encoding_image)

    def _draw_masks(
        self, audio: Tensor, image: Tensor, noise_audio: Tensor | None, noise_image: Tensor | None
    ) -> tuple[Mask, Mask]:
        """The masks of (batch, ...) audio and images, 0 keep and 1 remove; the noise of audio is drawn first."""
        if len(audio) != len(image):
            raise InputShapeError(
                f"{len(audio)} audio segments came with {len(image)} images: pass one of each a clip"
            )
        config = self.config
        noise_audio = _noise("noise_audio", noise_audio, audio, config.num_audio_patches)
        noise_image = _noise("noise_image", noise_image, image, config.num_image_patches)
        noise_audio = mask_lines(
            noise_audio, config.audio_grid, config.mask_ratio_audio, config.audio_mask_mode
        )
        mask_audio = draw_mask(noise_audio, config.mask_ratio_audio)
        return mask_audio, draw_mask(noise_image, config.mask_ratio_image)

    def _embedding(self, encoding: Encoding) -> Tensor:
        """(batch, dim), or (batch, 2, dim) where the mean of the patches is compared too."""
        if not self.config.global_local_losses:
            return encoding.global_token
        return torch.stack([encoding.global_token, encoding.patches.mean(dim=1)], dim=1)

    def _forward_decoder(
        self, audio: Tensor, image: Tensor, mask_audio: Mask, mask_image: Mask
    ) -> tuple[Tensor, Tensor]:
        """(batch, kept, dim) of each -> (batch, patches, values) of each, at kept and removed patches."""
        audio = mask_audio.fill(self.decoder_embed(audio), self.mask_token)  # (batch, patches, decoder_dim)
        image = mask_image.fill(self.decoder_embed(image), self.mask_token)
        audio = audio + self.decoder_pos_embed_a + self.decoder_modality_a
        image = image + self.decoder_pos_embed_v + self.decoder_modality_v
        x = torch.cat([audio, image], dim=1)  # (batch, audio patches + image patches, decoder_dim)
        for block in self.decoder_blocks:
            x = block(x)
        audio, image = self.decoder_norm(x).split([audio.shape[1], image.shape[1]], dim=1)
        return self.decoder_pred_a(audio), self.decoder_pred_v(image)

    def _reconstruction(self, prediction: Tensor, image: Tensor, mask: Mask) -> Tensor:
        """The loss of (batch, patches, values) predictions of (batch, channels, height, width) images."""
        target = patchify(image, self.config.patch_size)  # (batch, patches, values)
        return reconstruction_loss(prediction, target, mask.removed, self.config.norm_pix)


def _noise(name: str, noise: Tensor | None, batch: Tensor, num_patches: int) -> Tensor:
    """The noise given for a (batch, ...) input, or a uniform draw, of shape (batch, patches)."""
    shape = (len(batch), num_patches)
    if noise is None:
        return torch.rand(shape, device=batch.device)
    if noise.shape != shape:
        raise InputShapeError(f"{name} has shape {tuple(noise.shape)}, the patches need {shape}")
    return noise
