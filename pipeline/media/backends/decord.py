"""decord, for frames: it counts them, so it is used only where its count is the container's.

Its AudioReader decodes the audio of the whole file at once and closes gaps, so PyAV decodes the audio. It decodes
ahead, in RGB: a worker takes as much memory as with PyAV for small frames, and three times as much for 4K.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NoReturn

import av
import decord
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.clip_notes import MIRRORED
from cavsync.pipeline.media.audio_track import AudioTrack
from cavsync.pipeline.media.backends.pyav import PyAvDecoder
from cavsync.pipeline.media.backends.timing import first_orientation, require_frame_times, timing_error
from cavsync.pipeline.media.demuxing.clock import Span, time_s
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.timeline import open_container
from cavsync.pipeline.media.frame_selection import SAME_INSTANT_S, TimedFrame

# Clocks of containers are coarser than decord's floats.
SAME_TIME_S = 1e-3
# The ratio of frames that may be a neighbour's copy because they cannot be decoded; 0 would mean any.
FAULT_TOLERANCE = 1e-6
# What VideoReader raises: its library's error, one for no handle, one for no frame.
OPENING_ERRORS = (decord.DECORDError, RuntimeError, AssertionError)
DECODING_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError)

decord.logging.set_level(decord.logging.QUIET)


class DecordDecoder:
    name = f"decord-{decord.__version__}"
    opens_path = True

    def __init__(self, container: Container) -> None:
        self._container = container
        self._audio = PyAvDecoder(container)
        self.frame_gaps_s: list[tuple[float, float]] = []

    @property
    def failure(self) -> str | None:
        return self._audio.failure

    def read(self, span: Span, channel: AudioChannel, keeps_stereo: bool = False) -> AudioTrack:
        require_frame_times(self.name, self._container)
        self._times_s = self._packet_times_s()
        self._orientation = first_orientation(self._container)
        if self._orientation in MIRRORED:
            self._refuse("its frames are mirrored by a display matrix, and decord does not mirror them")
        self._reader = self._opened()
        self._compare(self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0])
        track = self._audio.read(span, channel, keeps_stereo)
        self.frames_begin_s, self.frames_end_s = self._audio.frames_begin_s, self._audio.frames_end_s
        return track

    def frames(self, instants: Sequence[float]) -> Iterator[TimedFrame | None]:
        for instant in instants:
            number = bisect_right(self._times_s, instant + SAME_INSTANT_S) - 1
            if number < 0:
                yield None
                continue
            try:
                rgb = self._reader[number].asnumpy()
            except DECODING_ERRORS as error:
                self._refuse(f"frame {number} cannot be decoded", error)
            image = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            yield TimedFrame(self._times_s[number], image, self._orientation)  # decord has turned it

    def _packet_times_s(self) -> list[float]:
        """Presentation times of all the file's frames, from its packets. Raises MediaError for a hidden or untimed one."""
        with open_container(self._container.path, self._container.deadline) as again:
            packets = [
                (time_s(packet), packet.is_discard)
                for packet in again.packets()
                if packet.stream_index == again.video.index
            ]
        hidden = sum(is_hidden for _, is_hidden in packets)
        if hidden:
            self._refuse(f"{hidden} frames are hidden by an edit list and decord counts them")
        times_s = [begins_s for begins_s, _ in packets if begins_s is not None]
        if len(times_s) < len(packets):
            self._refuse("some frames have no presentation time")
        return sorted(times_s)

    def _opened(self) -> decord.VideoReader:
        try:
            path = str(self._container.path.absolute())
            return decord.VideoReader(path, num_threads=1, fault_tol=FAULT_TOLERANCE)
        except OPENING_ERRORS as error:  # the message would name addresses in memory
            self._refuse("decord cannot open it", error)

    def _compare(self, begins_s: np.ndarray) -> None:
        """decord's clock begins with the file, and its frames must be those of the container."""
        if len(begins_s) != len(self._times_s):
            self._refuse(f"decord counts {len(begins_s)} frames, the container shows {len(self._times_s)}")
        expected_s = np.array(self._times_s) - self._container.origin_s
        worst_s = float(np.abs(begins_s - expected_s).max())
        if not worst_s <= SAME_TIME_S:
            self._refuse(f"decord's times are up to {worst_s:.3g} s off")

    def _refuse(self, why: str, cause: Exception | None = None) -> NoReturn:
        raise timing_error(self.name, why) from cause
