"""PyAV, the default: FFmpeg's libraries in this process, every frame with its own time."""

from collections.abc import Iterator, Sequence
from typing import Any

import av

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.media.audio import AudioTrack
from cavsync.pipeline.media.container import CodedFrames, Container, Span
from cavsync.pipeline.media.frame_selection import decoded, on_screen, with_packet_times


class PyAvDecoder:
    name = f"pyav-{av.__version__}"
    opens_path = False

    def __init__(self, container: Container) -> None:
        self._container = container
        self._coded = CodedFrames()

    def read(self, span: Span, channel: AudioChannel) -> tuple[AudioTrack, float]:
        track = AudioTrack(span.begin_s, span.duration_s, channel)

        def on_audio(packet: Any) -> None:
            for frame in packet.decode():
                track.add(frame)

        self._coded = self._container.demux(span, on_audio)
        return track, self._coded.end_s

    def frames(self, instants: Sequence[float]) -> Iterator[av.VideoFrame]:
        return on_screen(self._decoded(instants), instants)

    def _decoded(self, instants: Sequence[float]) -> Iterator[av.VideoFrame]:
        video, packets = self._container.video, self._coded.packets
        timed = self._container.has_frame_times
        for frame in decoded(video, packets, instants) if timed else with_packet_times(video, packets):
            self._container.deadline.check()
            yield frame
