"""Inputs of CAV-MAE Sync for transformers: waveforms to normalised log-mels, frames to normalised images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, FeatureExtractionMixin

from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.sampling import cut_window, window_starts
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.media.mel import FRAME_SAMPLES, long_log_mel
from cavsync.train.data.images import fit, normalise_images


class CavMaeSyncProcessor(FeatureExtractionMixin):
    """Makes what the model takes, as its training made it."""

    model_input_names = ("input_values", "pixel_values")

    def __init__(
        self,
        audio_rows: int = 416,
        image_size: int = 224,
        mel_mean: float = -5.081,
        mel_std: float = 4.4849,
        pad_value: float = 0.0,
        alignment: Alignment = "time",
        **kwargs: Any,
    ) -> None:
        """`audio_rows` are log-mel rows of 10 ms; `pad_value` is the log-mel after the end of the audio.

        `alignment` says which segment belongs to a frame: by its time ("time"), or by its number as in published
        weights ("upstream").
        """
        super().__init__(**kwargs)
        self.audio_rows, self.image_size = audio_rows, image_size
        self.mel_mean, self.mel_std, self.pad_value = mel_mean, mel_std, pad_value
        self.alignment = alignment

    def __call__(
        self,
        audio: Any = None,
        images: Any = None,
        *,
        sampling_rate: int | None = None,
        frame_times_s: Any = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """`input_values` of the audio, `pixel_values` of the images.

        Args:
            audio: A waveform (samples,) at 16 kHz, floats in [-1, 1]: (1, rows, 128). A list of waveforms, or an array
                (items, samples): (items, rows, 128). Lists of lists: (videos, frames, rows, 128). A longer waveform is
                cut at its end, a shorter one padded.
            images: A frame, as PIL gives it or uint8 (height, width, 3) or (3, height, width): (1, 3, side, side). A list
                of frames: (frames, 3, side, side). Lists of lists: (videos, frames, 3, side, side).
            sampling_rate: Of the audio, to be sure that it is 16000.
            frame_times_s: Seconds from the start of the waveform, one for each frame: the audio becomes the segment that
                belongs to each frame, (frames, rows, 128); of a list of waveforms, with a list for each,
                (videos, frames, rows, 128).
            return_tensors: "pt" or "np".
        """
        if audio is None and images is None:
            raise ValueError("give audio, images or both")
        if sampling_rate not in (None, SAMPLE_RATE_HZ):
            raise ValueError(f"the audio has {sampling_rate} Hz: resample it to {SAMPLE_RATE_HZ} Hz first")
        content = {}
        if audio is not None:
            content["input_values"] = self._audio(audio, frame_times_s)
        if images is not None:
            content["pixel_values"] = _each(images, _is_image, self._image, "images")
        return BatchFeature(content, tensor_type=return_tensors)

    def _audio(self, audio: Any, frame_times_s: Any) -> Tensor:
        if frame_times_s is None:
            return _each(audio, _is_waveform, self._first_segment, "audio")
        if _is_waveform(audio):
            return self._segments(audio, frame_times_s)
        if len(audio) != len(frame_times_s):
            raise ValueError(f"{len(audio)} waveforms came with {len(frame_times_s)} lists in frame_times_s")
        return _stacked(list(map(self._segments, audio, frame_times_s)), "audio")

    def _first_segment(self, waveform: Any) -> Tensor:
        return self._normalised(_log_mel(waveform), 0)

    def _segments(self, waveform: Any, frame_times_s: Sequence[float]) -> Tensor:
        """The segment of each frame, (frames, rows, 128)."""
        mel = _log_mel(waveform)
        starts = window_starts(frame_times_s, len(mel), self.audio_rows, self.alignment)
        return torch.stack([self._normalised(mel, int(start)) for start in starts])

    def _normalised(self, mel: np.ndarray, start: int) -> Tensor:
        """Rows from `start` of a float16 log-mel (rows, 128), normalised, as float32 (audio_rows, 128)."""
        window = torch.tensor(cut_window(mel, start, self.audio_rows, self.pad_value)).float()
        return window.sub_(self.mel_mean).mul_(1 / self.mel_std)

    def _image(self, image: Any) -> Tensor:
        return normalise_images(fit(_pixels(image), self.image_size))


def _log_mel(waveform: Any) -> np.ndarray:
    """Float16 (rows, 128) of (samples,), in the precision in which shards hold it."""
    samples = np.asarray(waveform)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"audio of type {samples.dtype}: give floats in [-1, 1], such as int16 / 32768")
    if len(samples) < FRAME_SAMPLES:
        raise ValueError(f"audio of {len(samples)} samples is shorter than one log-mel row, {FRAME_SAMPLES}")
    if not np.isfinite(samples).all():
        raise ValueError("audio with NaN or infinite samples")
    return long_log_mel(samples.astype(np.float32))


def _pixels(image: Any) -> Tensor:
    """Uint8 (height, width, 3) of one frame."""
    if hasattr(image, "convert"):  # of PIL
        image = np.array(image.convert("RGB"))
    pixels = image if isinstance(image, Tensor) else torch.tensor(image)
    if pixels.shape[-1] != 3 and pixels.shape[0] == 3:
        pixels = pixels.permute(1, 2, 0)
    if pixels.dtype != torch.uint8 or pixels.shape[-1] != 3:
        raise ValueError(
            f"an image of type {pixels.dtype} and shape {tuple(pixels.shape)}: give PIL images, or uint8 of red, green "
            "and blue, (height, width, 3) or (3, height, width)"
        )
    return pixels


def _is_waveform(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and np.ndim(value[0]) == 0
    return getattr(value, "ndim", 0) == 1


def _is_image(value: Any) -> bool:
    return hasattr(value, "convert") or getattr(value, "ndim", 0) == 3


def _each(value: Any, is_item: Callable[[Any], bool], convert: Callable[[Any], Tensor], name: str) -> Tensor:
    """(1, ...) of an item, (items, ...) of a list of them, (lists, items, ...) of lists of lists."""
    return convert(value).unsqueeze(0) if is_item(value) else _of_list(value, is_item, convert, name)


def _of_list(
    values: Any, is_item: Callable[[Any], bool], convert: Callable[[Any], Tensor], name: str
) -> Tensor:
    item = "frame" if name == "images" else "waveform"
    if not isinstance(values, list | tuple) and getattr(values, "ndim", 0) == 0:
        raise ValueError(f"{name} holds a {type(values).__name__}, neither a {item} nor a list of {item}s")
    if len(values) == 0:
        raise ValueError(f"{name} has an empty list")
    parts = [convert(one) if is_item(one) else _of_list(one, is_item, convert, name) for one in values]
    return _stacked(parts, name)


def _stacked(parts: list[Tensor], name: str) -> Tensor:
    """(parts, ...) of equal shapes; ValueError where lists differ in length."""
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"{name} has lists of different lengths: {[len(part) for part in parts]}")
    return torch.stack(parts)
