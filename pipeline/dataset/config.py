"""The configuration of a preparation: the choices that change a clip's bytes, and the limits of decoding it."""

from dataclasses import asdict, dataclass
from typing import Any, get_args

from cavsync.pipeline.dataset.choices import (
    Alignment,
    AudioChannel,
    AudioCodec,
    AudioRate,
    Crop,
    DecoderName,
    FrameTimes,
)

# Two digits number the frames in the tar.
MAX_FRAMES = 100
# Fields that decide whether a clip is finished, never what it contains.
LIMITS = {"clip_timeout_s"}


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How videos become shards. All shards of a dataset are prepared with the same configuration."""

    num_frames: int = 16
    frame_size: int = 224  # pixels of the short side
    crop: Crop = "centre"  # "none" keeps the frame's aspect ratio, for random crops at training
    jpeg_quality: int = 90
    frame_times: FrameTimes = "centred"
    audio_channel: AudioChannel = "first"  # as upstream's published features; "mean" mixes the channels
    keep_audio: AudioCodec | None = None  # an audio file beside the log-mel, on the same clock
    keep_audio_rate: AudioRate | None = None  # samples a second in it; None without one
    decoder: DecoderName = "pyav"  # the others reject files that they cannot time
    window_rows: int = 416  # mel rows of a frame's audio segment in the index; 416 is the paper's 4 s
    alignment: Alignment = "time"
    min_duration_s: float = 1.0  # a shorter clip ends as too_short
    keep: str | None = None  # an SQL condition over the columns of the index; other clips end as filtered
    shard_size: int = 512  # listed clips a shard: about 220 MB, two minutes of one core at 360p
    seed: int = 0  # which clips share a shard
    clip_timeout_s: float = 120.0  # wall clock for one clip

    def __post_init__(self) -> None:
        _require(1 <= self.num_frames <= MAX_FRAMES, "num_frames", self.num_frames, f"1 to {MAX_FRAMES}")
        _require(self.frame_size >= 16, "frame_size", self.frame_size, "16 pixels or more")
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")
        _require(self.window_rows >= 1, "window_rows", self.window_rows, "1 or more")
        _require(self.min_duration_s >= 0.1, "min_duration_s", self.min_duration_s, "0.1 s or more")
        _require(self.shard_size >= 1, "shard_size", self.shard_size, "1 or more")
        _require(self.clip_timeout_s > 0, "clip_timeout_s", self.clip_timeout_s, "more than 0 s")
        rates = (None,) if self.keep_audio is None else get_args(AudioRate)
        for name, allowed in (_CHOICES | {"keep_audio_rate": rates}).items():
            _require(
                getattr(self, name) in allowed, name, getattr(self, name), " or ".join(map(str, allowed))
            )

    def content(self) -> dict[str, Any]:
        """The fields that change the stored bytes, for dataset.json and for comparing two runs."""
        return {name: value for name, value in asdict(self).items() if name not in LIMITS}


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "crop": get_args(Crop),
    "frame_times": get_args(FrameTimes),
    "audio_channel": get_args(AudioChannel),
    "decoder": get_args(DecoderName),
    "keep_audio": (None, *get_args(AudioCodec)),
    "alignment": get_args(Alignment),
}


def _require(is_valid: bool, name: str, value: object, allowed: str) -> None:
    if not is_valid:
        raise ValueError(f"{name}={value!r} cannot be used; it must be {allowed}.")
