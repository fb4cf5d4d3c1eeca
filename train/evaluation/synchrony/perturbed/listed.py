"""`cavsync eval synchrony --manifest`: listed originals against listed perturbed files."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from cavsync.pipeline.dataset.sampling import frame_times_s, window_starts
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import MediaSegment, SegmentRequest
from cavsync.pipeline.media.mel import FRAME_SAMPLES, long_log_mel
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import decode_jpeg, fit
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.sliding import AVClip, WindowEncoder
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.perturbed.pair_list import ListedPair, read_pairs
from cavsync.train.evaluation.synchrony.perturbed.pairs import PairwiseFigures, ScoredPair, summarise_pairs
from cavsync.train.reporting.coverage import Coverage, Unusable

# A pair is scored over so much of its files at most.
MAX_S = 600.0

OnPair = Callable[[int, int], None]


@dataclass(frozen=True)
class ListedPairScores:
    """The pairs of one list under one checkpoint."""

    manifest: Path
    weights: Path
    inputs: DataConfig
    window_rows: int
    frames_per_s: float
    coverage: Coverage
    items: list[str]
    pairs: list[ScoredPair]
    figures: PairwiseFigures


def score_listed_pairs(
    manifest: Path,
    checkpoint: LoadedCheckpoint,
    encoder: WindowEncoder,
    frames_per_s: float,
    on_pair: OnPair = lambda done, total: None,
) -> ListedPairScores:
    """Scores every pair whose files can be read; raises CavsyncError on what the user can fix.

    `encoder` is one of the checkpoint.
    """
    listed = sorted(read_pairs(manifest), key=lambda pair: (pair.video, pair.title))
    items, pairs, unusable = [], [], []
    with DecoderProcess() as decoder:
        scoring = _Scoring(encoder, checkpoint.model.config.image_size, frames_per_s, decoder)
        for number, pair in enumerate(listed, 1):
            try:
                pairs.append(scoring.score(pair))
                items.append(pair.title)
            except MediaError as error:
                unusable.append(Unusable(pair.title, str(error.state), error.reason))
            on_pair(number, len(listed))
    coverage = Coverage(len(listed), tuple(unusable), "pairs")
    if not pairs:
        raise EvaluationError(f"{manifest}: {coverage.sentence}. The first one: {unusable[0].reason}.")
    return ListedPairScores(
        manifest=manifest,
        weights=checkpoint.weights,
        inputs=checkpoint.inputs,
        window_rows=encoder.window.rows,
        frames_per_s=frames_per_s,
        coverage=coverage,
        items=items,
        pairs=pairs,
        figures=summarise_pairs(pairs),
    )


@dataclass
class _Scoring:
    """Keeps the video and the original audio that were read last: pairs of one video come one after the other."""

    encoder: WindowEncoder
    side: int
    frames_per_s: float
    decoder: DecoderProcess
    _read_last: tuple[Path, float] | None = None
    _video: AVClip | None = None
    _frames: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    _original: tuple[Path, np.ndarray] | None = None

    def score(self, pair: ListedPair) -> ScoredPair:
        """Raises MediaError."""
        if pair.perturbed is None:
            raise MediaError(ClipState.NO_AUDIO, f"{pair.title} has perturbed frames; only audio is scored")
        own = self._original_mel(pair.audio or pair.video)
        perturbed = self._mel(pair.perturbed)
        video = self._read(pair.video, len(own) / MEL_ROWS_PER_S)
        # Both over the same rows, in windows at the same places.
        num_rows = min(len(own), len(perturbed))
        if num_rows < self.encoder.window.rows:
            raise MediaError(
                ClipState.TOO_SHORT,
                f"{pair.title}: {num_rows / MEL_ROWS_PER_S:g} s of audio are shorter than the model's window of "
                f"{self.encoder.window.rows / MEL_ROWS_PER_S:g} s",
            )
        scores = (self._similarity(video, mel[:num_rows]) for mel in (own, perturbed))
        return ScoredPair(str(pair.video), pair.negative, pair.amount, pair.direction, *scores)

    def _similarity(self, video: AVClip, mel: np.ndarray) -> float:
        """Mean, over the frames that a (rows, mels) log-mel lasts for, of the frame with its own window."""
        inside = video.times_s <= len(mel) / MEL_ROWS_PER_S
        starts = window_starts(video.times_s[inside], len(mel), self.encoder.window.rows, "time")
        distinct, window = np.unique(starts, return_inverse=True)
        segments = self.encoder.encode_windows(replace(video, mel=mel), distinct)
        return float((self._frames[inside] * segments[window]).sum(axis=1).mean())

    def _read(self, path: Path, duration_s: float) -> AVClip:
        """The frames of a video, which may be mute, at the steady rate over the duration of its audio; its log-mel is empty."""
        if (path, duration_s) != self._read_last:
            self._read_last = path, duration_s
            self._video, self._frames = None, np.empty((0, 0))
            times_s = tuple(frame_times_s(duration_s, max(1, round(duration_s * self.frames_per_s))).tolist())
            shown = self._segment(SegmentRequest(path, 0.0, duration_s, times_s, self.side)).shown
            if not shown:
                raise MediaError(
                    ClipState.NO_VIDEO, f"{path} shows no frame in the {duration_s:.2f} s of its audio"
                )
            frames = torch.stack([fit(decode_jpeg(bytearray(jpeg)), self.side) for _, jpeg in shown])
            times = np.array([time_s for time_s, _ in shown])
            self._video = AVClip(path.name, frames, times, np.empty((0, NUM_MELS), np.float16))
            self._frames = self.encoder.encode_frames(self._video)
        if self._video is None:
            raise MediaError(ClipState.NO_VIDEO, f"{path} has no frames that can be read")
        return self._video

    def _original_mel(self, path: Path) -> np.ndarray:
        """As `_mel`."""
        if self._original is None or self._original[0] != path:
            self._original = path, self._mel(path)
        return self._original[1]

    def _mel(self, path: Path) -> np.ndarray:
        """(rows, mels) float16 of a file's audio."""
        waveform = self._segment(SegmentRequest(path, 0.0, MAX_S)).waveform
        if len(waveform) < FRAME_SAMPLES:
            raise MediaError(
                ClipState.TOO_SHORT, f"{path}: {len(waveform)} samples of audio are no row of a log-mel"
            )
        return long_log_mel(waveform)

    def _segment(self, request: SegmentRequest) -> MediaSegment:
        try:
            return self.decoder.read(request)
        except MediaError as error:
            raise MediaError(error.state, f"{request.source}: {error.reason}") from error
