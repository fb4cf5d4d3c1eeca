"""Writes files of every container: what goes in is known, so what a player makes of them is arithmetic."""

import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from support.field.expected import CLIP_S, FieldFile
from support.media import chirp, run_ffmpeg, write_clip

SIZE = (96, 72)
RATE_HZ = 44_100
# The muxer waits for the stream that is behind, however far that is: the same file every time.
IN_ORDER = ("-max_interleave_delta", "0")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-threads", "1")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "0")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
# Its encoder leaves blocks out that changed; a keyframe has all.
THEORA = ("-c:v", "libtheora", "-q:v", "10", "-g", "1")


def repeated(times_s: np.ndarray) -> np.ndarray:
    """The chirp, begun anew every 10 s."""
    return chirp(np.mod(times_s, CLIP_S))


@dataclass(frozen=True)
class Muxing:
    """A container with its codecs, as the ffmpeg program writes them."""

    suffix: str
    video: tuple[str, ...]
    audio: str
    fps: int = 10
    # Samples that the encoder puts before the audio, where the container does not hide them.
    delay: int = 0
    rate_hz: int = RATE_HZ
    # The first frame does not wait for the audio's delay, as the others do.
    first_frame_at_0: bool = False
    # AVI has a slot for each frame and no other times: with a delay the first frame fills two.
    has_slots: bool = False
    lost: int = 0  # samples at the beginning that the decoder never gives

    @property
    def delay_s(self) -> float:
        return self.delay / self.rate_hz

    @property
    def audio_options(self) -> tuple[str, ...]:
        # FFmpeg's AAC encoder searches for most of a file's time otherwise.
        quick = ("-aac_coder", "fast") if self.audio == "aac" else ()
        return ("-c:a", self.audio, *quick, "-ar", str(self.rate_hz))


MUXINGS = {
    "mp4_aac": Muxing("mp4", H264, "aac"),
    "mp4_mp3": Muxing("mp4", H264, "libmp3lame"),
    # Without an edit list, which would hide the encoder's delay.
    "fragmented_aac": Muxing("mp4", H264, "aac", delay=1024, first_frame_at_0=True),
    "mov_pcm": Muxing("mov", H264, "pcm_s16le"),
    "mov_aac": Muxing("mov", H264, "aac"),
    "mov_adpcm": Muxing("mov", H264, "adpcm_ima_qt"),
    "mkv_vorbis": Muxing("mkv", H264, "libvorbis"),
    "mkv_flac": Muxing("mkv", H264, "flac"),
    # FFmpeg takes every packet of H.263 for a keyframe.
    "mkv_h263": Muxing("mkv", ("-c:v", "h263p", "-q:v", "2"), "pcm_s16le"),
    "avi_h263": Muxing("avi", ("-c:v", "h263p", "-q:v", "2"), "pcm_s16le"),
    "mkv_64_bits": Muxing("mkv", H264, "pcm_s64le"),
    "mkv_ac3": Muxing("mkv", H264, "ac3"),
    "mkv_aac": Muxing("mkv", H264, "aac"),
    "webm_opus": Muxing("webm", VP9, "libopus", rate_hz=48_000),
    "webm_vorbis": Muxing("webm", VP9, "libvorbis"),
    "avi_pcm": Muxing("avi", MPEG4, "pcm_s16le"),
    "avi_mp3": Muxing("avi", MPEG4, "libmp3lame", delay=1105, first_frame_at_0=True, has_slots=True),
    "avi_adpcm": Muxing("avi", MPEG4, "adpcm_ima_wav"),
    # Its samples add up differences from the first one on.
    "avi_yamaha": Muxing("avi", MPEG4, "adpcm_yamaha"),
    "ts_aac": Muxing("ts", H264, "aac", delay=1024),
    "ts_mp2": Muxing("ts", MPEG2, "mp2", fps=25, delay=481),
    "ts_ac3": Muxing("ts", H264, "ac3", delay=256),
    "mpg_mp2": Muxing("mpg", MPEG2, "mp2", fps=25, delay=481),
    "flv_aac": Muxing("flv", H264, "aac", delay=1024),
    "flv_mp3": Muxing("flv", ("-c:v", "flv", "-q:v", "2"), "libmp3lame", delay=1105),
    "wmv": Muxing("wmv", ("-c:v", "wmv2", "-q:v", "2"), "wmav2", delay=2009, lost=4057),
    "asf": Muxing("asf", ("-c:v", "msmpeg4v3", "-q:v", "2"), "libmp3lame", delay=1105),
    "ogv": Muxing("ogv", THEORA, "libvorbis"),
    "ogv_flac": Muxing("ogv", THEORA, "flac"),
    # Colours are numbers of a palette, here of 256 greys.
    "mov_palette": Muxing("mov", ("-c:v", "qtrle", "-pix_fmt", "gray"), "pcm_s16le"),
    "3gp_aac": Muxing("3gp", MPEG4, "aac"),
    "3gp_amr": Muxing("3gp", MPEG4, "libopencore_amrnb", rate_hz=8_000),
    "mxf": Muxing("mxf", MPEG2, "pcm_s16le", fps=25, rate_hz=48_000),
}


class FieldFolder:
    """Makes files, each source once."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.folder, self._source_folder = folder, sources
        self._sources: dict[Any, Path] = {}

    def source(
        self,
        seconds: float,
        fps: int,
        frame_times_s: tuple[float, ...] | None = None,
        audio_start_s: float = 0.0,
    ) -> FieldFile:
        """H.264 and FLAC in Matroska: the streams begin at 0 and have no delay."""
        times_s = frame_times_s or tuple(n / fps for n in range(round(seconds * fps)))
        key = (seconds, fps, times_s, audio_start_s)
        if key not in self._sources:
            self._source_folder.mkdir(exist_ok=True)
            path = self._source_folder / f"source_{len(self._sources)}.mkv"
            write_clip(
                path, seconds, fps, SIZE, audio=repeated, audio_codec="flac", frame_times_s=times_s,
                audio_start_s=audio_start_s,
            )  # fmt: skip
            self._sources[key] = path
        gaps = ((0.0, audio_start_s),) if audio_start_s else ()
        late = ((0.0, times_s[0]),) if times_s[0] > 0 else ()
        return FieldFile(
            path=self._sources[key],
            frame_times_s=times_s,
            end_s=seconds,
            audio_gaps_s=gaps,
            frame_gaps_s=late,
        )

    def converted(
        self, name: str, source: FieldFile, muxing: Muxing, *options: str, audio_first: bool = False
    ) -> FieldFile:
        """The source's streams in another container, video first unless `audio_first`."""
        path = self.folder / f"{name}.{muxing.suffix}"
        maps = ("-map", "0:a", "-map", "0:v") if audio_first else ("-map", "0:v", "-map", "0:a")
        coding = (*muxing.video, *muxing.audio_options, "-fps_mode", "passthrough", *IN_ORDER, *options)
        run_ffmpeg("-i", source.path, *maps, *coding, path)
        return delayed(replace(source, path=path), muxing)

    def piped(self, name: str, source: FieldFile, muxing: Muxing, *options: str) -> FieldFile:
        """As `converted`, into a pipe: the header cannot be completed at the end."""
        path = self.folder / f"{name}.{muxing.suffix}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-i", str(source.path)]
        formats = {"mkv": "matroska", "ts": "mpegts", "ogv": "ogg"}
        coding = (
            *muxing.video,
            *muxing.audio_options,
            *IN_ORDER,
            *options,
            "-f",
            formats.get(muxing.suffix, muxing.suffix),
        )
        with (
            path.open("wb") as file,
            subprocess.Popen([*command, *coding, "-"], stdout=subprocess.PIPE) as run,
        ):
            assert run.stdout is not None
            file.write(run.stdout.read())
        assert run.returncode == 0
        return delayed(replace(source, path=path), muxing)


def delayed(file: FieldFile, muxing: Muxing) -> FieldFile:
    """What the encoder puts before the audio moves both streams."""
    late_s = muxing.delay_s
    first_s = 0.0 if muxing.first_frame_at_0 else late_s
    moved_s = 1 / muxing.fps if muxing.has_slots and late_s else late_s
    begin_s, *rest = file.frame_times_s
    lost = ((0.0, muxing.lost / muxing.rate_hz),) if muxing.lost else ()
    return replace(
        file,
        frame_times_s=(begin_s + first_s, *(time_s + moved_s for time_s in rest)),
        end_s=file.end_s + late_s,
        audio_source_s=file.audio_source_s - late_s,
        audio_gaps_s=tuple((one and one + late_s, other + late_s) for one, other in file.audio_gaps_s)
        or lost,
        frame_gaps_s=tuple((one and one + first_s, other + first_s) for one, other in file.frame_gaps_s),
    )


# Of a packet of "video" or "audio" and its time in the file: itself, another one, or None to leave it out.
Change = Callable[[str, float, Any], Any]
Coded = tuple[float, str, Any]  # the time in the file, the kind and the packet


def unchanged(kind: str, time_s: float, packet: Any) -> Any:
    return packet


def remuxed(
    source: Path, path: Any, change: Change = unchanged, *, audio_behind_s: float = 0.0, audio_first: bool = False,
    options: dict[str, str] | None = None, container: str | None = None,
) -> None:  # fmt: skip
    """Copies the coded packets; in the file, those of the audio come `audio_behind_s` after the frames of their time."""
    with av.open(str(source)) as media:
        write_packets(
            path, media, coded_packets(media, change), audio_behind_s, audio_first, options, container
        )


def coded_packets(media: Any, change: Change = unchanged) -> Iterator[Coded]:
    start_s = (media.start_time or 0) / av.time_base
    for packet in media.demux(media.streams.video[0], media.streams.audio[0]):
        if packet.size:
            kind, time_s = packet.stream.type, float(packet.pts * packet.time_base) - start_s
            kept = change(kind, time_s, packet)
            if kept is not None:
                yield time_s, kind, kept


def write_packets(
    path: Any, template: Any, packets: Iterable[Coded], audio_behind_s: float = 0.0, audio_first: bool = False,
    options: dict[str, str] | None = None, container: str | None = None,
) -> None:  # fmt: skip
    """`template` is an open file with streams of the packets' codecs."""
    # With so small a distance the muxer writes packets in the order in which it gets them.
    writing = {"max_interleave_delta": "1"} | (options or {})
    with av.open(path, "w", format=container, options=writing) as out:
        kinds = ("audio", "video") if audio_first else ("video", "audio")
        streams = {kind: out.add_stream_from_template(getattr(template.streams, kind)[0]) for kind in kinds}
        behind_s = {"video": 0.0, "audio": audio_behind_s}
        for _, kind, packet in sorted(packets, key=lambda one: _stored_s(one) + behind_s[one[1]]):
            packet.stream = streams[kind]
            out.mux(packet)


def _stored_s(coded: Coded) -> float:
    packet = coded[2]
    return float(packet.dts * packet.time_base)


def overwritten(packet: Any) -> Any:
    """The packet with bytes that no decoder takes."""
    return replaced(packet, b"\xff" * packet.size)


def replaced(packet: Any, content: bytes) -> Any:
    """The packet with other content."""
    other = av.Packet(content)
    for name in ("pts", "dts", "duration", "time_base", "is_keyframe"):
        setattr(other, name, getattr(packet, name))
    return other


def postponed(packet: Any, by_s: float) -> Any:
    """The packet at another time."""
    ticks = round(Fraction(by_s) / packet.time_base)
    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    return packet
