"""Files made of random choices: where their packets lie, begin, are missing, late or off their times."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from hypothesis import strategies as st
from support.field.expected import FieldFile
from support.field.muxing import MUXINGS, Coded, FieldFolder, coded_packets, write_packets

SECONDS, FPS = 6.0, 10
CONTAINERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "ts": "mpegts", "flv": "flv"}
# What a pipe needs that mp4 and mov would otherwise write at the end.
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof+delay_moov"}

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class FileChoices:
    """Times are seconds from the file's start."""

    container: str
    audio_first: bool
    audio_behind_s: float  # in the file, behind the frames of its time
    to_a_pipe: bool
    jitter_ms: int  # of the times of audio packets, to either side
    late: str | None  # the stream that begins late
    late_s: float
    audio_gaps_s: Spans
    holds_s: Spans  # no frame changes from the beginning of such a span to its end


def spans(longest_s: float) -> st.SearchStrategy[Spans]:
    """Up to two, apart, in the middle of the file."""
    lengths = st.integers(2, round(longest_s * 10)).map(lambda tenths: tenths / 10)
    one = st.tuples(st.just(2.5), lengths).map(lambda span: ((span[0], span[0] + span[1]),))
    two = st.tuples(lengths, lengths).map(lambda both: ((2.2, 2.2 + both[0]), (4.0, 4.0 + both[1])))
    return st.one_of(st.just(()), one, two)


def file_choices() -> st.SearchStrategy[FileChoices]:
    return st.builds(
        FileChoices,
        container=st.sampled_from(sorted(CONTAINERS)),
        audio_first=st.booleans(),
        audio_behind_s=st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0, 10.0]),
        to_a_pipe=st.booleans(),
        jitter_ms=st.sampled_from([0, 3, 10]),
        late=st.sampled_from([None, "audio", "video"]),
        late_s=st.sampled_from([0.3, 1.0, 2.0]),
        audio_gaps_s=spans(0.8),
        holds_s=spans(1.5),
    )


class AnyFileMaker:
    """Copies the packets of one file, whose frames are each coded by themselves."""

    def __init__(self, folder: Path) -> None:
        maker, self._muxing = FieldFolder(folder, folder), MUXINGS["flv_aac"]
        self._source = maker.converted("whole", maker.source(SECONDS, FPS), self._muxing, "-g", "1").path
        self._folder = folder
        self._count = 0

    def file(self, choices: FileChoices) -> FieldFile:
        """The file of the choices, and what a player makes of it."""
        self._count += 1
        path = self._folder / f"{self._count}.{choices.container}"
        with av.open(str(self._source)) as media:
            packets = list(self._chosen(media, choices))
            audio_s = [time_s for time_s, kind, _ in packets if kind == "audio"]
            self._write(path, media, packets, choices)
        frames = [time_s for time_s in self._frame_times() if _has_frame(choices, time_s)]
        late = ((0.0, choices.late_s),)
        return FieldFile(
            path=path,
            frame_times_s=tuple(frames),
            numbers=tuple(round(time_s * FPS) for time_s in frames),
            end_s=max(audio_s) + 1024 / 44_100,
            audio_gaps_s=(late if choices.late == "audio" else ()) + choices.audio_gaps_s,
            frame_gaps_s=late if choices.late == "video" else (),
            pitch_tolerance_s=6e-3 + choices.jitter_ms / 1000,
        )

    def _frame_times(self) -> list[float]:
        return [n / FPS for n in range(round(SECONDS * FPS))]

    def _chosen(self, media: Any, choices: FileChoices) -> Iterator[Coded]:
        """Without what the encoder puts before the audio: both streams begin at 0 s."""
        delay_s, number = self._muxing.delay_s, 0
        for time_s, kind, packet in coded_packets(media):
            from_s = time_s - delay_s
            if from_s < -0.005 or not (_has_frame if kind == "video" else _has_audio)(
                choices, from_s + 0.005
            ):
                continue
            number += kind == "audio"
            off_s = _jitter_s(number, choices) if kind == "audio" and number > 3 else 0.0
            packet.pts = packet.dts = max(0, round(Fraction(from_s + off_s) / packet.time_base))
            yield from_s, kind, packet

    def _write(self, path: Path, media: Any, packets: list[Coded], choices: FileChoices) -> None:
        options = FRAGMENTED if choices.to_a_pipe and choices.container in ("mp4", "mov") else {}
        behind_s = choices.audio_behind_s
        if choices.container in ("ts", "flv"):  # they say what streams they have only by having them early
            behind_s = (
                min(0.5, max(-0.5, behind_s)) if choices.container == "ts" else min(0.0, max(-0.5, behind_s))
            )
        target = _Pipe() if choices.to_a_pipe else str(path)
        layout = (behind_s, choices.audio_first, dict(options), CONTAINERS[choices.container])
        write_packets(target, media, packets, *layout)
        if isinstance(target, _Pipe):
            path.write_bytes(target.content.getvalue())


class _Pipe:
    """Takes bytes one after the other."""

    def __init__(self) -> None:
        self.content = io.BytesIO()

    def write(self, part: bytes) -> int:
        return self.content.write(part)


def _has_frame(choices: FileChoices, time_s: float) -> bool:
    is_late = choices.late == "video" and time_s < choices.late_s - 0.01
    # The first frame of a span stays.
    return not is_late and not any(
        start_s + 0.05 < time_s < stop_s - 0.01 for start_s, stop_s in choices.holds_s
    )


def _has_audio(choices: FileChoices, time_s: float) -> bool:
    is_late = choices.late == "audio" and time_s < choices.late_s
    return not is_late and not any(start_s <= time_s < stop_s for start_s, stop_s in choices.audio_gaps_s)


def _jitter_s(number: int, choices: FileChoices) -> float:
    return (number * 7 % (2 * choices.jitter_ms + 1) - choices.jitter_ms) / 1000
