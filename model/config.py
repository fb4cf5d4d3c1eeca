"""The configuration of a model: its sizes, its masking and its losses. Imports no torch.

Numbers come from the released model and its public sources: `edsonroteia/cav-mae-sync` (Sync, the released
code), the authors' training fork `edsonroteia/cav-mae`, and `YuanGongND/cav-mae` (the original CAV-MAE).
"""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from cavsync.model.errors import ModelConfigError

GlobalTokens = Literal["none", "contrastive", "per-task"]
AudioMaskMode = Literal["unstructured", "time", "freq", "time-freq"]
ContrastiveDirection = Literal["one-way", "two-way"]
PriorityDirection = Literal["global-to-patch", "patch-to-global"]
"""Which attention of a joint block ranks patches: that of the global token to each patch, or of each patch to it."""
_CHOICES = {
    "global_tokens": get_args(GlobalTokens),
    "audio_mask_mode": get_args(AudioMaskMode),
    "contrastive_direction": get_args(ContrastiveDirection),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model; the defaults are the released CAV-MAE Sync."""

    audio_rows: int = 416
    """Log-mel rows, of 10 ms each, in one audio segment; 416 are 4.16 s, which upstream calls 4 s."""
    num_mels: int = 128
    """Mel bands of the log-mel."""
    image_size: int = 224
    """Side of the square image, in pixels."""
    patch_size: int = 16
    """Side of a patch: pixels of the image, bands and rows of the log-mel."""

    embed_dim: int = 768
    """Width of the tokens and of the embeddings."""
    num_heads: int = 12
    """Attention heads of each block; weights do not show it, so it must be known to read them."""
    encoder_depth: int = 11
    """Blocks of each modality's own encoder."""
    joint_depth: int = 1
    """Blocks shared by both modalities; with the encoder's they make ViT-B's twelve."""
    mlp_ratio: float = 4.0
    """Width of a block's hidden layer as a multiple of embed_dim."""
    num_registers: int = 8
    """Register tokens of each modality."""
    keep_registers: bool = False
    """Registers go on through the joint blocks and the contrastive heads, instead of leaving before them."""
    global_tokens: GlobalTokens = "contrastive"
    """none: embeddings are means of patches; contrastive: one learned token for each modality; per-task: a
    second one for each, which only the reconstruction uses."""
    contrastive_head_depth: int = 0
    """Further blocks of each modality between the joint blocks and its embedding."""

    decoder_dim: int = 512
    """Width of the decoder that reconstructs the masked patches."""
    decoder_depth: int = 8
    """Blocks of the decoder."""
    decoder_num_heads: int = 16
    """Attention heads of each block of the decoder."""

    mask_ratio_audio: float = 0.75
    """Fraction of the patches of the log-mel that are masked in training."""
    mask_ratio_image: float = 0.75
    """Fraction of the patches of the image that are masked in training."""
    audio_mask_mode: AudioMaskMode = "unstructured"
    """Which patches of the log-mel are masked: unstructured: any; time: all of an instant; freq: all of a band;
    time-freq: both kinds."""

    norm_pix: bool = True
    """Reconstruct patches normalised by their own mean and variance. Off in upstream's constructor, on in
    every training script."""
    reconstruction_weight: float = 1.0
    """Factor of the reconstruction loss in the total."""
    contrastive_weight: float = 0.1
    """Factor of the contrastive loss in the total; 0.1 is the training fork's value for Sync."""
    temperature: float = 0.05
    """Cosines are divided by it in the contrastive loss."""
    contrastive_direction: ContrastiveDirection = "one-way"
    """one-way, as upstream: each image is classified over the audio segments of the batch; two-way: also each
    audio segment over the images."""
    global_local_losses: bool = False
    """Average the contrastive loss of the global tokens with that of the mean patches."""

    def __post_init__(self) -> None:
        self._check_types()
        self._check_choices()
        self._check_counts()
        self._check_divisions()
        self._check_masking()
        self._check_losses()

    @property
    def num_global_tokens(self) -> int:
        """Learned tokens in front of each modality's patches."""
        return {"none": 0, "contrastive": 1, "per-task": 2}[self.global_tokens]

    @property
    def num_late_registers(self) -> int:
        """Registers of each modality that go through the joint blocks."""
        return self.num_registers if self.keep_registers else 0

    @property
    def audio_grid(self) -> tuple[int, int]:
        """(rows, columns) of patches: along frequency, along time."""
        return self.num_mels // self.patch_size, self.audio_rows // self.patch_size

    @property
    def image_grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size // self.patch_size, self.image_size // self.patch_size

    @property
    def num_audio_patches(self) -> int:
        return self.audio_grid[0] * self.audio_grid[1]

    @property
    def num_image_patches(self) -> int:
        return self.image_grid[0] * self.image_grid[1]

    def _check_types(self) -> None:
        # Values also come from files and from the command line.
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            whole_number = kind is float and type(value) is int
            self._require(field.name, type(value) is kind or whole_number, f"must be of type {kind.__name__}")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, f"must be one of {', '.join(choices)}")

    def _check_counts(self) -> None:
        one_or_more = (
            *("audio_rows", "num_mels", "image_size", "patch_size", "embed_dim", "num_heads"),
            *("encoder_depth", "joint_depth", "mlp_ratio"),
            *("decoder_dim", "decoder_depth", "decoder_num_heads"),
        )
        for name in one_or_more:
            self._require(name, getattr(self, name) >= 1, "must be 1 or more")
        for name in ("num_registers", "contrastive_head_depth"):
            self._require(name, getattr(self, name) >= 0, "must be 0 or more")

    def _check_divisions(self) -> None:
        for name in ("audio_rows", "num_mels", "image_size"):
            nearest = max(1, round(getattr(self, name) / self.patch_size)) * self.patch_size
            fits = getattr(self, name) % self.patch_size == 0
            self._require(
                name, fits, f"must be a multiple of patch_size={self.patch_size}, such as {nearest}"
            )
        for width, heads in (("embed_dim", "num_heads"), ("decoder_dim", "decoder_num_heads")):
            num_heads = getattr(self, heads)
            self._require(width, getattr(self, width) % num_heads == 0, f"must divide by {heads}={num_heads}")
            # A position embedding has a sine and a cosine of the column and of the row.
            self._require(width, getattr(self, width) % 4 == 0, "must be a multiple of 4")

    def _check_masking(self) -> None:
        patches = {"mask_ratio_audio": self.num_audio_patches, "mask_ratio_image": self.num_image_patches}
        for name, num_patches in patches.items():
            ratio = getattr(self, name)
            leaves_one = 0 <= ratio < 1 and num_kept(num_patches, ratio) >= 1
            self._require(
                name, leaves_one, f"must be 0 or more and leave at least one of {num_patches} patches"
            )

    def _check_losses(self) -> None:
        for name in ("reconstruction_weight", "contrastive_weight"):
            self._require(name, getattr(self, name) >= 0, "must be 0 or more")
        self._require("temperature", self.temperature > 0, "must be above 0 (upstream uses 0.05)")
        has_both = self.global_tokens != "none" or not self.global_local_losses
        self._require("global_local_losses", has_both, 'needs global_tokens="contrastive" or "per-task"')

    def _require(self, name: str, condition: bool, rule: str) -> None:
        if not condition:
            raise ModelConfigError(f"{name}={getattr(self, name)!r} {rule}")


def num_kept(num_patches: int, mask_ratio: float) -> int:
    """Number of patches that masking keeps, rounded down as upstream."""
    return int(num_patches * (1 - mask_ratio))


def sync_base() -> ModelConfig:
    """The released CAV-MAE Sync, `cav_mae_sync.pth`: 190,660,864 parameters in upstream's layout."""
    return ModelConfig()


def cavmae_base() -> ModelConfig:
    """The original CAV-MAE (ViT-B, 10.24 s of audio): no registers, no global tokens, a smaller contrastive weight."""
    return replace(
        sync_base(), audio_rows=1024, num_registers=0, global_tokens="none", contrastive_weight=0.01
    )


def tiny() -> ModelConfig:
    """The same graph at toy size: learns the synthetic world of the demo in a minute on two CPU cores."""
    return ModelConfig(
        audio_rows=96,
        image_size=128,
        embed_dim=96,
        num_heads=3,
        encoder_depth=2,
        num_registers=4,
        decoder_dim=48,
        decoder_depth=1,
        decoder_num_heads=4,
        contrastive_weight=1.0,
        # In short runs the one-way loss leaves audio-to-image retrieval behind.
        contrastive_direction="two-way",
    )
