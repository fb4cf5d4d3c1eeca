"""`cavsync eval synchrony --video`: the delay of the audio of one video, where it can be estimated reliably."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, MediaError
from cavsync.pipeline.media.frame_images import is_still
from cavsync.train.data.config import DataConfig
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.video import WholeVideo, read_video
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.offsets import (
    MIN_FRAMES,
    Delay,
    OffsetCurve,
    estimate_delay,
    offset_curve,
    without_missing,
)

Verdict = Literal["in step", "late", "early", "cannot tell"]
OnPart = Callable[[int, int], None]


@dataclass(frozen=True)
class VideoSynchrony:
    """One video under one checkpoint."""

    video: Path
    weights: Path
    inputs: DataConfig
    config: SynchronyConfig
    frames_per_s: float
    duration_s: float  # of video and audio together
    file_duration_s: float  # as the container says; 0 where it does not
    curve: OffsetCurve
    times_s: np.ndarray  # (P,) of the frames
    delay: Delay | None  # None where the audio is too short for any offset

    @property
    def verdict(self) -> Verdict:
        if self.delay is None or not self.delay.is_reliable(self.config.min_agreement):
            return "cannot tell"
        if abs(self.delay.delay_s) <= self.config.tolerance_s:
            return "in step"
        return "late" if self.delay.delay_s > 0 else "early"

    @property
    def sentence(self) -> str:
        """For people: the verdict and its basis."""
        delay, config = self.delay, self.config
        if delay is None:
            return "Cannot tell: no offset has a window of audio for any frame."
        basis = f"{self._counted(delay)} agree on it to {delay.agreement:.0%}"
        if self.verdict == "in step":
            return f"The audio is in step with the video: {delay.delay_s:+.2f} s, within {config.tolerance_s:g} s; {basis}."
        if self.verdict in ("late", "early"):
            side = "after" if delay.delay_s > 0 else "before"
            return f"The audio comes {abs(delay.delay_s):.2f} s {side} its frames; {basis}."
        return f"Cannot tell: {self._doubt(delay)} (best guess {delay.delay_s:+.2f} s; {basis})."

    def _counted(self, delay: Delay) -> str:
        """The frames that the delay was estimated from."""
        num_frames = len(self.times_s)
        if delay.num_frames == num_frames:
            return f"{num_frames} frames"
        return f"the {delay.num_frames} of {num_frames} frames that have audio at that delay"

    def _doubt(self, delay: Delay) -> str:
        if delay.num_frames < MIN_FRAMES:
            return f"{delay.num_frames} frames are too few, {MIN_FRAMES} are needed"
        if delay.agreement < self.config.min_agreement:
            return f"the frames do not agree on one delay to {self.config.min_agreement:.0%} or more"
        return "the curve is highest where it ends, so the delay may lie beyond; search farther with --max-offset"


def score_video(
    checkpoint: LoadedCheckpoint,
    video: Path,
    config: SynchronyConfig,
    frames_per_s: float,
    on_second: OnPart = lambda done, total: None,
    on_window: OnPart = lambda done, total: None,
) -> VideoSynchrony:
    """Encodes windows over the whole file; raises CavsyncError on what the user can fix.

    `on_second` is called with the decoded seconds of the file, `on_window` with the encoded windows of its audio.
    """
    # Published alignment goes by the numbers of a clip's 16 frames, which a video does not have.
    inputs = replace(checkpoint.inputs, alignment="time")
    window_encoder = config.window_encoder(checkpoint, inputs)
    whole = _read(video, frames_per_s, checkpoint.model.config.image_size, on_second)
    window_s = window_encoder.window.rows / MEL_ROWS_PER_S
    if whole.duration_s < window_s + config.step_s:
        raise EvaluationError(
            f"{video} has {whole.duration_s:.2f} s of video and audio, and the model encodes {window_s:g} s of audio at once: "
            "there is no second window. Use a longer video, or a model of shorter windows."
        )
    embeddings = window_encoder.encode(whole.clip, on_window)
    audio = without_missing(embeddings, whole.audio_gaps_s, window_encoder.window.rows)
    curve = offset_curve(embeddings, audio, config.offsets_s)
    return VideoSynchrony(
        video=video,
        weights=checkpoint.weights,
        inputs=inputs,
        config=config,
        frames_per_s=frames_per_s,
        duration_s=whole.duration_s,
        file_duration_s=whole.file_duration_s,
        curve=curve,
        times_s=whole.clip.times_s,
        delay=estimate_delay(curve),
    )


def _read(video: Path, frames_per_s: float, side: int, on_second: OnPart) -> WholeVideo:
    """Raises EvaluationError for a file in which nothing can be in step."""
    try:
        whole = read_video(video, frames_per_s, side, on_second)
    except MediaError as error:
        raise EvaluationError(f"{video} cannot be used: {error}.") from error
    if whole.is_silent:
        raise EvaluationError(f"{video} is silent from beginning to end: there is nothing to be in step.")
    frames = whole.clip.frames
    if len(frames) > 1 and is_still([frame.numpy() for frame in frames]):
        raise EvaluationError(
            f"{video} shows one image from beginning to end: nothing in it can be in step with the audio."
        )
    return whole
