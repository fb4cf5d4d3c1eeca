"""The result of `cavsync localize`: the heatmaps of a video, and whether something in it sounds like the audio."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from cavsync.pipeline.dataset.schema import ClipState
from cavsync.train.choices import MapMethod
from cavsync.train.embedding.windows.window_file import Side
from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
from cavsync.train.inference.localize.calibration import ERROR_RATE, MIN_FILES, Calibration
from cavsync.train.inference.localize.familiarity import Familiarity

Verdict = Literal["found", "nothing", "cannot tell"]


@dataclass(frozen=True)
class LocalizedVideo:
    """The heatmaps of a video; times are seconds from its start, NaN stands where a frame or audio is missing."""

    video: Path
    audio: Path | None
    """The file whose audio was localized; None for the video's own."""
    weights: Path
    map: MapConfig
    start_s: np.ndarray
    """(W,) when each window of audio begins."""
    end_s: np.ndarray
    """(W,) when it ends; `[start_s, end_s)`."""
    frame_s: np.ndarray
    """(W,) when the frame in its middle came on screen."""
    frames: tuple[bytes | None, ...]
    """W JPEGs of the square that the model takes; None without one."""
    maps: dict[MapMethod, np.ndarray]
    """Method to (W, rows, columns) float32, one cell for each patch of the frame."""
    similarity: np.ndarray
    """(W,) cosine of frame and audio."""
    calibration: Calibration | None
    familiarity: Mapping[Side, Familiarity]
    """How like the calibration clips the frames and the audio are; empty where nothing was calibrated."""
    duration_s: float
    state: ClipState
    """Of the video: `ok`, or what is wrong with it although it has windows."""
    reason: str | None

    @property
    def middles_s(self) -> np.ndarray:
        """(W,) the middle of each window, in seconds."""
        middles_s: np.ndarray = (self.start_s + self.end_s) / 2
        return middles_s

    @property
    def is_scored(self) -> np.ndarray:
        """(W,) bool: there are both a frame and audio."""
        known: np.ndarray = np.isfinite(self.similarity)
        return known

    @property
    def passes(self) -> np.ndarray:
        """(W,) bool: the audio may come from the frame; all scored windows where nothing was calibrated for them."""
        if self.calibration is None or self.unlike:
            return self.is_scored
        passes: np.ndarray = self.is_scored & (self.similarity >= self.calibration.threshold)
        return passes

    @property
    def passing_fraction(self) -> float:
        """Of the scored windows, those that pass."""
        return float(self.passes.sum() / self.is_scored.sum())

    @property
    def unlike(self) -> list[Side]:
        """What is unlike that of the calibration clips."""
        return [side for side, one in self.familiarity.items() if not one.is_like_clips]

    @property
    def verdict(self) -> Verdict:
        if self.calibration is None or not self.calibration.is_reliable or self.unlike:
            return "cannot tell"
        return "found" if self.passing_fraction > self.calibration.limit else "nothing"

    @cached_property
    def sentence(self) -> str:
        """The verdict and the figures behind it."""
        if self.calibration is None:
            return (
                "Cannot tell whether anything here sounds like this: nothing to calibrate with. Give --calibrate a prepared "
                "dataset, or a file of `cavsync embed`."
            )
        if not self.calibration.is_sufficient:
            return (
                f"Cannot tell whether anything here sounds like this: {self.calibration.source} are {self.calibration.num_files} "
                f"files with frames and audio, and a bound that errs in {ERROR_RATE:.0%} of the cases needs {MIN_FILES} or more. "
                "Give --calibrate more videos of this kind."
            )
        if self.unlike:
            named = {"image": "frames", "audio": "audio"}
            measured = "; ".join(f"{named[side]}: {self.familiarity[side].sentence}" for side in self.unlike)
            verb = "is" if self.unlike == ["audio"] else "are"  # "its frames are", "its frames and audio are"
            return (
                f"Cannot tell whether anything here sounds like this: its {' and '.join(named[side] for side in self.unlike)} "
                f"{verb} unlike those of {self.calibration.source} (similarity to the nearest, {measured}). Give --calibrate "
                "videos of this kind."
            )
        counted = f"{self.passes.sum()} of {self.is_scored.sum()} windows reach the similarity of {self.calibration.threshold:.2f}"
        level, num_files = self.calibration.limit_error_rate, self.calibration.num_files
        unrelated = (
            f"{1 - level:.0%} of unrelated audio reaches it in no more than {self.calibration.limit:.0%}"
        )
        if level > ERROR_RATE:
            unrelated += (
                f" ({num_files} calibration files show no more; {2 * MIN_FILES} show {1 - ERROR_RATE:.0%})"
            )
        if not self.calibration.is_reliable:
            return f"Cannot tell whether anything here sounds like this: {counted}, but {unrelated}."
        if self.verdict == "found":
            return f"Something here sounds like this: {counted}; {unrelated}."
        return f"Nothing here sounds like this: {counted}; {unrelated}."

    @property
    def spans_s(self) -> list[tuple[float, float]]:
        """(start, end) of where windows pass; those that touch are one span."""
        spans: list[tuple[float, float]] = []
        for start_s, end_s in zip(self.start_s[self.passes], self.end_s[self.passes], strict=True):
            if spans and start_s <= spans[-1][1]:
                spans[-1] = (spans[-1][0], float(end_s))
            else:
                spans.append((float(start_s), float(end_s)))
        return spans
