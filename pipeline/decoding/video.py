"""A whole video of any length as pictures at a steady rate and one waveform, decoded piece by piece.

Only what is kept stays in memory: an hour at two pictures a second is about 0.3 GB.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.media.decode import DecodedClip, open_media
from cavsync.pipeline.media.mel import FRAME_SAMPLES, SHIFT_SAMPLES, log_mel
from cavsync.pipeline.media.probe import duration_s

# Pictures decoded at a time; the coded form of their piece of the file is held in memory.
PICTURES_PER_PIECE = 50
LONGEST_PIECE_S = 60
# A shorter rest at the end is left out, and a shorter file is refused.
MIN_PIECE_S = 0.5
# Rows of log-mel computed at a time, 5 minutes: 100 MB of spectra.
ROWS_PER_BLOCK = 30_000

OnPiece = Callable[[int, int], None]  # seconds decoded, seconds of the file


@dataclass(frozen=True)
class Footage:
    """As far as there is both picture and sound; times are seconds from the file's start."""

    pictures: list[bytes]  # JPEG
    times_s: np.ndarray  # (pictures,)
    waveform: np.ndarray  # (samples,) float32 at 16 kHz
    file_duration_s: float  # as the container says; 0 where it does not

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLE_RATE_HZ

    def mel(self) -> np.ndarray:
        """The whole log-mel, (rows, 128) float16 as in shards."""
        num_rows = 1 + (len(self.waveform) - FRAME_SAMPLES) // SHIFT_SAMPLES
        blocks = []
        for first in range(0, num_rows, ROWS_PER_BLOCK):
            last = min(first + ROWS_PER_BLOCK, num_rows) - 1
            samples = self.waveform[first * SHIFT_SAMPLES : last * SHIFT_SAMPLES + FRAME_SAMPLES]
            blocks.append(log_mel(samples).astype(np.float16))
        return np.concatenate(blocks)


def read_footage(
    path: Path, pictures_per_s: float, side: int, on_piece: OnPiece = lambda done, total: None
) -> Footage:
    """Pictures cropped to `side` x `side`, spread evenly over all parts that have picture and sound.

    Raises MediaError for a file that cannot be read.
    """
    if not path.is_file():
        raise MediaError(ClipState.MISSING, "it is not there")
    file_s = duration_s(str(path)) or 0.0
    pictures: list[bytes] = []
    times_s: list[np.ndarray] = []
    sound: list[np.ndarray] = []
    num_samples = 0
    for start_s, piece in _pieces(path, pictures_per_s, side, file_s):
        pictures += piece.frames
        times_s.append(start_s + piece.frame_pts_s)
        # Where the file has a hole the piece before has ended early; the hole is silent.
        hole = np.zeros(round(start_s) * SAMPLE_RATE_HZ - num_samples, np.float32)
        sound += [hole, piece.waveform]
        num_samples += len(hole) + len(piece.waveform)
        end_s = start_s + piece.duration_s
        on_piece(round(end_s), round(max(file_s, end_s)))
    footage = Footage(pictures, np.concatenate(times_s), np.concatenate(sound), file_s)
    on_piece(round(footage.duration_s), round(footage.duration_s))
    return footage


def _pieces(
    path: Path, pictures_per_s: float, side: int, file_s: float
) -> Iterator[tuple[float, DecodedClip]]:
    """Where each piece begins, and what it holds; those without picture or sound are left out.

    A file that does not tell its length (`file_s` is 0) is read until that happens.
    """
    # Whole seconds, so that pieces are whole numbers of samples.
    longest_s = max(1, min(LONGEST_PIECE_S, int(PICTURES_PER_PIECE / pictures_per_s)))
    start_s, any_read = 0.0, False
    while not any_read or not file_s or start_s + MIN_PIECE_S <= file_s:
        piece_s = min(longest_s, max(file_s - start_s, MIN_PIECE_S)) if file_s else longest_s
        try:
            piece = _decode(path, start_s, piece_s, max(1, round(piece_s * pictures_per_s)), side)
        except MediaError as error:
            is_last = not file_s or start_s + longest_s >= file_s
            if error.state != ClipState.TOO_SHORT or (is_last and not any_read):
                raise
            if is_last:
                return
        else:
            any_read = True
            yield start_s, piece
        start_s += longest_s


def _decode(path: Path, start_s: float, piece_s: float, num_pictures: int, side: int) -> DecodedClip:
    config = PrepareConfig(num_frames=num_pictures, frame_size=side, min_duration_s=MIN_PIECE_S)
    with open_media(path, config.clip_timeout_s) as media:
        return media.decode(start_s, piece_s, config)
