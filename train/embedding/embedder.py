"""Files of any length to embeddings with times: windows of audio, and the frames in their middle."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, ClipState
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import SlidingWindows, Window, WindowSpec
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.images import decode_jpeg, fit
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.encode import unit_frames, unit_segments
from cavsync.train.errors import EvaluationError

OnSecond = Callable[[int, int], None]  # seconds done, seconds of the file


@dataclass(frozen=True)
class FileEmbeddings:
    """The embeddings of a file's W windows of audio and of the frames in their middles; times are seconds from its start.

    Embeddings are unit vectors; a row of NaN stands where the file has no frame, or no audio but silence.
    """

    start_s: np.ndarray
    """(W,) when each window of audio begins."""
    end_s: np.ndarray
    """(W,) when it ends; `[start_s, end_s)`."""
    frame_s: np.ndarray
    """(W,) when the frame came on screen, NaN without one."""
    audio: np.ndarray
    """(W, D) float32, of the windows of audio."""
    image: np.ndarray
    """(W, D) float32, of the frames."""
    duration_s: float
    state: ClipState
    """`ok`, or what is wrong with the file although it has windows."""
    reason: str | None
    """A sentence; None when the state is `ok`."""

    @property
    def has_audio(self) -> np.ndarray:
        """(W,) bool"""
        return _is_known(self.audio)

    @property
    def has_image(self) -> np.ndarray:
        """(W,) bool"""
        return _is_known(self.image)


class Embedder:
    """A checkpoint that embeds files."""

    def __init__(self, checkpoint: LoadedCheckpoint, step_s: float | None = None) -> None:
        """A window begins every `step_s` seconds, by default half a window."""
        self.checkpoint, self.rule = checkpoint, checkpoint.window
        rows, side = self.rule.rows, checkpoint.model.config.image_size
        self.spec = WindowSpec(rows, _step_rows(rows, step_s), side)

    @property
    def width(self) -> int:
        width: int = self.checkpoint.model.config.embed_dim
        return width

    @cached_property
    def about(self) -> dict[str, Any]:
        """What decides the embeddings. Those of one checkpoint, model and log-mel may be compared, in either precision."""
        return {
            "checkpoint_sha256": sha256(self.checkpoint.weights),
            "precision": self.checkpoint.precision,
            "model": asdict(self.checkpoint.model.config),
            "mel": {"mean": self.rule.mean, "std": self.rule.std, "pad_value": self.rule.pad_value},
            "window_s": self.spec.rows / MEL_ROWS_PER_S,
            "step_s": self.spec.step_rows / MEL_ROWS_PER_S,
        }

    def embed(
        self,
        path: Path | str,
        decoder: DecoderProcess,
        on_second: OnSecond = lambda done, total: None,
    ) -> FileEmbeddings:
        """All windows of a file, read and encoded piece by piece.

        Raises MediaError for a file that gives none, EvaluationError where an embedding is NaN.
        """
        sliding = self.windows(Path(path), decoder)
        parts = []
        for windows in sliding:
            # Frames and log-mels are let go here: those of an hour of video take 150 MiB.
            parts.append((_times_s(windows), self.embed_segments(windows), self.embed_frames(windows)))
            on_second(round(windows[-1].end_s), round(max(sliding.file_s, windows[-1].end_s)))
        return _file_windows(parts, sliding)

    def windows(self, path: Path, decoder: DecoderProcess) -> SlidingWindows:
        return SlidingWindows(path, self.spec, decoder)

    def embed_frames(self, windows: list[Window]) -> np.ndarray:
        """(W, D) unit vectors, NaN where there is no frame."""
        return self._scatter([window.frame for window in windows], self._unit_jpegs)

    def embed_segments(self, windows: list[Window]) -> np.ndarray:
        """(W, D) unit vectors, NaN where there is no audio."""
        return self._scatter([window.mel for window in windows], self._unit_mels)

    def model_image(self, jpeg: bytes) -> torch.Tensor:
        """The frame as a uint8 (side, side, 3) image of the model's size."""
        return fit(decode_jpeg(bytearray(jpeg)), self.spec.side)

    def unit_frames(self, frames: Iterable[torch.Tensor]) -> np.ndarray:
        """(N, D) float32 unit vectors of N uint8 (side, side, 3) frames."""
        one, what = self.checkpoint, f"frames by {self.checkpoint.weights}"
        vectors: np.ndarray = unit_frames(one.model, frames, one.device, what, one.precision).numpy()
        return vectors

    def unit_segments(self, segments: Iterable[torch.Tensor]) -> np.ndarray:
        """(N, D) float32 unit vectors of N normalised (rows, mels) audio segments."""
        one, what = self.checkpoint, f"audio segments by {self.checkpoint.weights}"
        vectors: np.ndarray = unit_segments(
            one.model, segments, one.device, what, precision=one.precision
        ).numpy()
        return vectors

    def _unit_jpegs(self, jpegs: list[bytes]) -> np.ndarray:
        # A frame that stays on screen is the same in several windows.
        distinct = {jpeg: number for number, jpeg in enumerate(dict.fromkeys(jpegs))}
        return self.unit_frames(map(self.model_image, distinct))[[distinct[jpeg] for jpeg in jpegs]]

    def _unit_mels(self, mels: list[np.ndarray]) -> np.ndarray:
        return self.unit_segments(self.rule.normalised(mel, 0) for mel in mels)

    def _scatter(self, items: list[Any], encode: Callable[[list[Any]], np.ndarray]) -> np.ndarray:
        vectors = np.full((len(items), self.width), np.nan, np.float32)
        known = [index for index, item in enumerate(items) if item is not None]
        if known:
            vectors[known] = encode([items[index] for index in known])
        return vectors


def _is_known(vectors: np.ndarray) -> np.ndarray:
    known: np.ndarray = ~np.isnan(vectors).any(axis=1)
    return known


def _step_rows(rows: int, step_s: float | None) -> int:
    if step_s is None:
        return max(1, rows // 2)
    step_rows = round(step_s * MEL_ROWS_PER_S)
    if not 1 <= step_rows <= rows:
        raise EvaluationError(
            f"a step of {step_s:g} s must lie between {1 / MEL_ROWS_PER_S:g} s and the {rows / MEL_ROWS_PER_S:g} s "
            "of this model's windows: a longer one would skip parts of the files."
        )
    return step_rows


def _times_s(windows: list[Window]) -> np.ndarray:
    """(W, 3) float64: start and end, and when the frame came on screen, NaN without one."""
    return np.array([(one.start_s, one.end_s, one.frame_s) for one in windows], np.float64)


def _file_windows(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], sliding: SlidingWindows
) -> FileEmbeddings:
    times_s, audio, image = map(np.concatenate, zip(*parts, strict=True))
    start_s, end_s, frame_s = times_s.T
    state, reason = state_of(
        sliding, has_frames=bool(_is_known(image).any()), has_audio=bool(_is_known(audio).any())
    )
    return FileEmbeddings(
        start_s=start_s,
        end_s=end_s,
        frame_s=frame_s,
        audio=audio,
        image=image,
        duration_s=sliding.duration_s,
        state=state,
        reason=reason,
    )


def state_of(sliding: SlidingWindows, *, has_frames: bool, has_audio: bool) -> tuple[ClipState, str | None]:
    """The state of a file that was read, and a sentence where it is not ok."""
    if sliding.damage:
        more = f", and {len(sliding.damage) - 1} more places" if len(sliding.damage) > 1 else ""
        return ClipState.DECODE_ERROR, f"damaged: {sliding.damage[0]}{more}; what could be read is used"
    if not has_frames and not has_audio:
        return ClipState.NO_AUDIO, "it has no frames, and is silent from beginning to end"
    if not has_frames:
        return ClipState.NO_VIDEO, "it has no frames; its audio is used"
    if not has_audio:
        return ClipState.NO_AUDIO, "it has no audio, or only silence; its frames are used"
    return ClipState.OK, None
