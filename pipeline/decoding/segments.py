"""Reads a whole video of any length as consecutive segments, each with evenly spread frames and its audio."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import EvenFrames, MediaSegment, SegmentRequest
from cavsync.pipeline.decoding.windows import MOST_EMPTY

# The video packets of a segment are held in memory.
FRAMES_PER_SEGMENT = 50
LONGEST_SEGMENT_S = 60
# A shorter rest at the end is left out, and a shorter file is an error.
MIN_SEGMENT_S = 0.5


class VideoSegments:
    """Iterate over it once: the parts of a video that have both audio and frames, in order of time.

    The waveform of a segment ends where its frames or its audio end. Raises MediaError for a file that cannot be read.
    """

    def __init__(self, path: Path, frames_per_s: float, side: int, decoder: DecoderProcess) -> None:
        """Frames are cropped to `side` x `side`."""
        self.path, self.frames_per_s, self.side = path, frames_per_s, side
        self.file_s = decoder.duration_s(path) or 0.0  # as the header says; 0 where it does not
        self._decoder = decoder

    def __iter__(self) -> Iterator[MediaSegment]:
        """A segment that ends early is the last one, unless the header says that the file goes on."""
        # Whole seconds, so that segments are whole numbers of samples.
        longest_s = max(1, min(LONGEST_SEGMENT_S, int(FRAMES_PER_SEGMENT / self.frames_per_s)))
        start_s, is_last, any_read, num_empty = 0.0, False, False, 0
        while num_empty < MOST_EMPTY and (not is_last or start_s + MIN_SEGMENT_S <= self.file_s):
            try:
                segment = self._read(start_s, longest_s)
            except MediaError as error:
                if error.state != ClipState.TOO_SHORT:
                    raise
                first_error, is_last, num_empty = error, True, num_empty + 1
            else:
                any_read, num_empty = True, 0
                is_last = segment.end_s + MIN_SEGMENT_S < start_s + longest_s
                yield segment
            start_s += longest_s
        if not any_read:
            raise first_error

    def _read(self, start_s: float, duration_s: float) -> MediaSegment:
        frames = EvenFrames(frames_per_s=self.frames_per_s)
        segment = self._decoder.read(SegmentRequest(self.path, start_s, duration_s, frames, self.side))
        shared_s = segment.shared_s(MIN_SEGMENT_S)
        return replace(segment, waveform=segment.waveform[: round(shared_s * SAMPLE_RATE_HZ)])
