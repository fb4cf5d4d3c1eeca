"""`cavsync localize`: heatmaps of where in a video audio comes from, its own or another file's, and whether it does.

The video is cut as by `cavsync embed`: the frame in the middle of each window is compared with the window's audio, or
with the most similar segment of the other file. Axis words: W windows, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import SlidingWindows, Window
from cavsync.train.choices import MapMethod
from cavsync.train.embedding.embedder import Embedder, OnSecond, state_of
from cavsync.train.embedding.encode import require_finite
from cavsync.train.embedding.windows.window_file import Side
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import AudioFeatures, HeatmapModel, ImageFeatures, MapConfig
from cavsync.train.inference.localize.calibration import ERROR_RATE, Calibration
from cavsync.train.inference.localize.familiarity import CalibrationEmbeddings, Familiarity
from cavsync.train.inference.localize.localized_video import LocalizedVideo

# Only the beginning of another file is used, about as long as a clip of the datasets.
MAX_AUDIO_S = 10.5


def localize(
    embedder: Embedder,
    video: Path,
    audio: Path | None,
    methods: Sequence[MapMethod],
    config: MapConfig,
    calibration: Calibration | None,
    on_second: OnSecond = lambda done, total: None,
) -> LocalizedVideo:
    """Heatmaps of every window, of the video's own audio or of that of the file `audio`.

    Raises EvaluationError where no window has a frame and audio.
    """
    with DecoderProcess() as decoder:
        segments = None if audio is None else read_segments(embedder, audio, decoder)
        localizer = _Localizer(embedder, config, tuple(dict.fromkeys(methods)), segments)
        sliding = embedder.windows(video, decoder)
        try:
            for windows in sliding:
                localizer.add(windows)
                on_second(round(windows[-1].end_s), round(max(sliding.file_s, windows[-1].end_s)))
        except MediaError as error:
            raise EvaluationError(f"{video} cannot be used: {error}.") from error
    localizer.require_anything(video)
    windows = localizer.windows
    has_frames, has_audio = (
        any(getattr(one, part) is not None for one in windows) for part in ("frame", "mel")
    )
    state, reason = state_of(sliding, has_frames=has_frames, has_audio=has_audio)
    frames_s = [np.nan if window.frame_s is None else window.frame_s for window in windows]
    return LocalizedVideo(
        video=video,
        audio=audio,
        weights=embedder.checkpoint.weights,
        map=config,
        start_s=np.array([window.start_s for window in windows]),
        end_s=np.array([window.end_s for window in windows]),
        frame_s=np.array(frames_s, np.float64),
        frames=tuple(window.frame for window in windows),
        maps={method: np.stack(cells) for method, cells in localizer.maps.items()},
        similarity=np.concatenate(localizer.similarity),
        calibration=None
        if calibration is None
        else replace(calibration, num_segments=len(segments or [None])),
        familiarity={} if calibration is None else localizer.familiarity(calibration),
        duration_s=max(sliding.duration_s, windows[-1].end_s),
        state=state,
        reason=reason,
    )


def read_segments(embedder: Embedder, audio: Path, decoder: DecoderProcess) -> list[Window]:
    """The audio segments, one after the other, of the beginning of a file; silent ones are left out.

    Raises EvaluationError where none is left.
    """
    spec = replace(embedder.spec, step_rows=embedder.spec.rows)
    try:
        first = next(iter(SlidingWindows(audio, spec, decoder)))
    except MediaError as error:
        raise EvaluationError(f"{audio} cannot be localised: {error}.") from error
    segments = [window for window in first if window.mel is not None and window.end_s <= MAX_AUDIO_S]
    segments = segments or [window for window in first[:1] if window.mel is not None]
    if not segments:
        raise EvaluationError(
            f"{audio} cannot be localised: it has no audio, or only silence, in its first {MAX_AUDIO_S:g} s."
        )
    return segments


class _Localizer:
    """One pass over a video's windows."""

    def __init__(
        self,
        embedder: Embedder,
        config: MapConfig,
        methods: tuple[MapMethod, ...],
        segments: list[Window] | None,
    ) -> None:
        """Each frame is compared with all `segments`; with None, with the audio of its own window."""
        checkpoint = embedder.checkpoint
        self._embedder, self._segments = embedder, segments
        self._segment_vectors = None if segments is None else embedder.embed_segments(segments)  # (S, D)
        self._heatmap_model = HeatmapModel(checkpoint.model, config, checkpoint.device, checkpoint.precision)
        self._reader = PromptReader.of(checkpoint)
        self._unmapped = np.full(checkpoint.model.config.image_grid, np.nan, np.float32)
        # Of audio that is given, each segment is compared with many frames.
        self._encoded: dict[int, AudioFeatures] = {}
        # A frame that stays on screen for several windows is encoded once.
        self._image: tuple[bytes, dict[MapMethod, ImageFeatures]] | None = None
        self.windows: list[Window] = []
        self.maps: dict[MapMethod, list[np.ndarray]] = {method: [] for method in methods}
        self.similarity: list[np.ndarray] = []
        self._frame_vectors: list[np.ndarray] = []
        self._audio_vectors: list[np.ndarray] = []

    def add(self, windows: list[Window]) -> None:
        similarity, segments, vectors = self._best_segments(windows)
        self.windows += windows
        self.similarity.append(similarity)
        for window, segment, vector, value in zip(windows, segments, vectors, similarity, strict=True):
            audio = self._audio_features(segment, vector) if np.isfinite(value) else None
            for method, maps in self.maps.items():
                maps.append(self._unmapped if audio is None else self._map(window, audio, method))

    def _best_segments(self, windows: list[Window]) -> tuple[np.ndarray, list[Window], np.ndarray]:
        """(W,) similarity of each frame to the segment that it is most similar to, that segment and its (W, D) vectors."""
        frames = self._embedder.embed_frames(windows)  # (W, D)
        self._frame_vectors.append(frames)
        if self._segments is None or self._segment_vectors is None:
            audio = self._embedder.embed_segments(windows)
            self._audio_vectors.append(audio)
            return (frames * audio).sum(axis=1), windows, audio
        similarity = frames @ self._segment_vectors.T  # (W, S)
        best = similarity.argmax(axis=1)
        return similarity.max(axis=1), [self._segments[index] for index in best], self._segment_vectors[best]

    def familiarity(self, calibration: Calibration) -> dict[Side, Familiarity]:
        """Of the scored windows' frames, and of the audio that they are compared with; together they err at `ERROR_RATE`."""
        scored = np.isfinite(np.concatenate(self.similarity))
        frames = np.concatenate(self._frame_vectors)[scored]
        audio = self._segment_vectors
        audio = np.concatenate(self._audio_vectors)[scored] if audio is None else audio
        sides: dict[Side, tuple[np.ndarray, CalibrationEmbeddings | None]] = {
            "image": (frames, calibration.image),
            "audio": (audio, calibration.audio),
        }
        return {
            side: clips.familiarity(vectors, ERROR_RATE / 2)
            for side, (vectors, clips) in sides.items()
            if clips
        }

    def require_anything(self, video: Path) -> None:
        """Raises EvaluationError where no window has both a frame and audio."""
        if np.isfinite(np.concatenate(self.similarity)).any():
            return
        if all(window.frame is None for window in self.windows):
            raise EvaluationError(f"{video} has no frames, so nothing can be localised in it.")
        raise EvaluationError(
            f"{video} has no audio with its frames, or only silence, so nothing can be localised. Give other audio: "
            "--audio FILE."
        )

    def _audio_features(self, segment: Window, vector: np.ndarray) -> AudioFeatures:
        """Of a segment whose (D,) unit vector is known, which is all that masked views need."""
        assert segment.mel is not None
        if "denseav" not in self.maps:
            return AudioFeatures(None, torch.from_numpy(vector).to(self._heatmap_model.device))
        if self._segments is None:
            return self._heatmap_model.encode_audio(self._reader.cut_mel(segment.mel))
        if id(segment) not in self._encoded:
            self._encoded[id(segment)] = self._heatmap_model.encode_audio(self._reader.cut_mel(segment.mel))
        return self._encoded[id(segment)]

    def _image_features(self, jpeg: bytes) -> dict[MapMethod, ImageFeatures]:
        """Of every method; those of the frame before where it is the same, byte by byte."""
        if self._image is None or self._image[0] != jpeg:
            image = self._embedder.model_image(jpeg)
            features = {method: self._heatmap_model.encode_image(image, method) for method in self.maps}
            self._image = jpeg, features
        return self._image[1]

    def _map(self, window: Window, audio: AudioFeatures, method: MapMethod) -> np.ndarray:
        """(rows, columns) float32"""
        assert window.frame is not None
        cells = self._image_features(window.frame)[method].heatmap(audio).cells
        require_finite(cells, f"the {method} heatmap at {window.frame_s:.2f} s")
        values: np.ndarray = cells.float().numpy()
        return values
