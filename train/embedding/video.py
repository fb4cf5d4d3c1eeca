"""Reads a whole video as one clip: all its frames at a steady rate, and its log-mel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.segments import VideoSegments
from cavsync.pipeline.media.mel import is_silent, long_log_mel
from cavsync.train.data.images import decode_jpeg, fit
from cavsync.train.embedding.sliding import AVClip

OnSecond = Callable[[int, int], None]  # seconds decoded, seconds of the file


@dataclass(frozen=True)
class WholeVideo:
    """A video as far as it has both audio and frames."""

    clip: AVClip
    duration_s: float
    file_duration_s: float  # as the header says; 0 where it does not
    is_silent: bool
    audio_gaps_s: tuple[
        tuple[float, float], ...
    ] = ()  # [start, stop) where samples are missing, 0 in the log-mel


def read_video(
    path: Path, frames_per_s: float, side: int, on_second: OnSecond = lambda done, total: None
) -> WholeVideo:
    """The video for a model that sees `side` x `side`, frames spread evenly over all parts with audio and frames.

    The video is decoded segment by segment: an hour at two frames a second is 0.3 GB of JPEG and waveform until the
    frames are decoded. Raises MediaError for a file that cannot be read.
    """
    jpegs: list[bytes] = []
    times_s: list[float] = []
    audio: list[np.ndarray] = []
    gaps_s: list[tuple[float, float]] = []
    num_samples = 0
    with DecoderProcess() as decoder:
        segments = VideoSegments(path, frames_per_s, side, decoder)
        for segment in segments:
            for time_s, jpeg in segment.shown:
                times_s.append(time_s)
                jpegs.append(jpeg)
            # Where the file has a hole the segment before has ended early.
            hole = np.zeros(round(segment.start_s) * SAMPLE_RATE_HZ - num_samples, np.float32)
            if len(hole):
                gaps_s.append((num_samples / SAMPLE_RATE_HZ, segment.start_s))
            gaps_s += segment.audio_gaps_s
            audio += [hole, segment.waveform]
            num_samples += len(hole) + len(segment.waveform)
            end_s = num_samples / SAMPLE_RATE_HZ
            on_second(round(end_s), round(max(segments.file_s, end_s)))
    on_second(round(end_s), round(end_s))
    waveform = np.concatenate(audio)
    return WholeVideo(
        clip=AVClip(path.name, _decoded(jpegs, side), np.array(times_s), long_log_mel(waveform)),
        duration_s=end_s,
        file_duration_s=segments.file_s,
        is_silent=all(
            is_silent(part) for part in audio
        ),  # part by part: one of an hour would take its memory twice
        audio_gaps_s=tuple(gaps_s),
    )


def _decoded(jpegs: Sequence[bytes], side: int) -> Tensor:
    """uint8 (P, side, side, 3), filled frame by frame: a list of tensors would take the memory twice."""
    frames = torch.empty(len(jpegs), side, side, 3, dtype=torch.uint8)
    for number, jpeg in enumerate(jpegs):
        frames[number] = fit(decode_jpeg(bytearray(jpeg)), side)
    return frames
