"""Files whose audio packets, samples or frames are as real files have them: each with what a player shows and plays."""

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import av
import numpy as np
from support.field.expected import FieldFile
from support.field.muxing import (
    MUXINGS,
    SIZE,
    Change,
    FieldFolder,
    Muxing,
    coded_packets,
    overwritten,
    postponed,
    remuxed,
    repeated,
    replaced,
    write_packets,
)
from support.field.stream_kinds import SECONDS, SECONDS_OF_TWO_CLIPS, Recipe, of_each
from support.media import run_ffmpeg, write_clip

JITTER = {
    # Every eighth packet 10 ms late.
    "single": "TS+if(eq(mod(N,8),3),0.01/TB,0)",
    # Every packet off by another part of 20 ms, as a web recorder stamps them.
    "every": "TS+if(lt(N,3),0,(mod(N*7,20)-10)/1000/TB)",
}
DAMAGE_S = (1.4, 1.86)


def jittered(muxing: Muxing, how: str, folder: FieldFolder, name: str) -> FieldFile:
    """The samples are steady, the times of the packets are not."""
    times = JITTER[how]
    jitter = f"setts=pts=P{times}:dts=D{times}".replace(",", r"\,")
    file = folder.converted(name, folder.source(SECONDS, muxing.fps), muxing, "-bsf:a", jitter)
    return replace(file, pitch_tolerance_s=0.015)


def changed(muxing: Muxing, change: Change, folder: FieldFolder, name: str) -> FieldFile:
    """The file with some of its packets changed or left out."""
    whole = folder.converted(f"{name}_whole", folder.source(SECONDS, muxing.fps), muxing)
    path = whole.path.rename(whole.path.with_suffix(".whole"))
    remuxed(path, str(folder.folder / f"{name}.{muxing.suffix}"), change)
    path.unlink()
    return replace(whole, path=folder.folder / f"{name}.{muxing.suffix}")


def undecodable_audio(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Half a second of the audio's packets is rubbish."""

    def change(kind: str, time_s: float, packet: Any) -> Any:
        return overwritten(packet) if kind == "audio" and DAMAGE_S[0] <= time_s < DAMAGE_S[1] else packet

    file = changed(muxing, change, folder, name)
    return replace(file, audio_gaps_s=(DAMAGE_S,), gap_tolerance_s=0.1)


def one_undecodable_packet(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The rest of the audio stays at its time."""
    damaged: list[float] = []

    def change(kind: str, time_s: float, packet: Any) -> Any:
        if kind == "audio" and time_s >= DAMAGE_S[0] and not damaged:
            damaged.append(time_s)
            return overwritten(packet)
        return packet

    file = changed(muxing, change, folder, name)
    # Named or not: it is short.
    return replace(file, audio_gaps_s=((damaged[0], damaged[0] + 0.1),), gap_tolerance_s=0.11)


def lost_audio(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Half a second of the audio's packets is not there."""

    def change(kind: str, time_s: float, packet: Any) -> Any:
        return None if kind == "audio" and DAMAGE_S[0] <= time_s < DAMAGE_S[1] else packet

    return replace(changed(muxing, change, folder, name), audio_gaps_s=(DAMAGE_S,))


def postponed_audio(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """A recorder lost its place: from there on the audio comes 80 ms later, the frames do not."""

    def change(kind: str, time_s: float, packet: Any) -> Any:
        return postponed(packet, 0.08) if kind == "audio" and time_s >= DAMAGE_S[0] else packet

    file = changed(muxing, change, folder, name)
    gap_s = (DAMAGE_S[0], DAMAGE_S[0] + 0.08)
    return replace(file, audio_gaps_s=(gap_s,), slips=((gap_s[0], 0.08),), end_s=file.end_s + 0.08)


def undecodable_frames(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The frames of the second second are rubbish; each frame is coded by itself."""

    def change(kind: str, time_s: float, packet: Any) -> Any:
        return overwritten(packet) if kind == "video" and 0.999 <= time_s < 1.999 else packet

    file = changed(replace(muxing, video=("-c:v", "mjpeg", "-q:v", "2")), change, folder, name)
    kept = [n for n in range(len(file.frame_times_s)) if not 10 <= n < 20]
    return replace(
        file,
        frame_times_s=tuple(file.frame_times_s[n] for n in kept),
        numbers=tuple(kept),
        frame_gaps_s=((1.0, 2.0),),
    )


def right_channel(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The left channel is silent."""
    pan = ("-af", "pan=stereo|c1=c0")
    return replace(folder.converted(name, folder.source(SECONDS, muxing.fps), muxing, *pan), audio_channel=1)


def right_of_eight(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Only the second of eight channels has audio."""
    pan = ("-af", "pan=7.1|c1=c0")
    return replace(folder.converted(name, folder.source(SECONDS, muxing.fps), muxing, *pan), audio_channel=1)


def constant_offset(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Every sample is 0.5."""
    constant = ("-af", "aeval=0.5:c=same")
    return replace(folder.converted(name, folder.source(SECONDS, muxing.fps), muxing, *constant), silent=True)


def two_rates(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The sample rate changes at 2 s, in packets that say their rate themselves."""
    source = folder.source(SECONDS, muxing.fps)
    before, after = (
        folder.converted(f"{name}_{rate_hz}", source, replace(muxing, rate_hz=rate_hz))
        for rate_hz in (44_100, 48_000)
    )
    path = folder.folder / f"{name}.{muxing.suffix}"
    with av.open(str(before.path)) as first, av.open(str(after.path)) as second:
        packets = [one for one in coded_packets(first) if one[1] == "video" or one[0] < 2.0]
        packets += [one for one in coded_packets(second) if one[1] == "audio" and one[0] >= 2.0]
        write_packets(str(path), first, packets)
    for part in (before, after):
        part.path.unlink()
    # Around the change a packet may overlap the other.
    return replace(before, path=path, audio_gaps_s=((2.0, 2.0),))


def many_frames_a_packet(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Only the first audio frame of a packet has a time. Long enough that the second clip begins after a seek."""
    return folder.converted(name, folder.source(SECONDS_OF_TWO_CLIPS, muxing.fps), muxing, audio_first=True)


def variable_bit_rate(folder: FieldFolder, name: str) -> FieldFile:
    """40 s of mp3 that are quiet first, without a header that says how long it is."""
    path = folder.folder / f"{name}.mp3"
    source = folder.source(10.0, 10)
    graph = "[0:a]aloop=3:441000,volume='if(lt(t,20),0.0001,1)':eval=frame"
    run_ffmpeg(
        *("-i", source.path, "-filter_complex", graph, "-vn", "-c:a", "libmp3lame", "-q:a", "1"),
        *("-write_xing", "0", "-id3v2_version", "0", path),
    )
    return FieldFile(
        path=path, frame_times_s=(), end_s=40.0, audio_source_s=-1105 / 44_100, audio_gaps_s=((0.0, 20.0),)
    )


MIRRORS: dict[str, tuple[tuple[str, ...], int, Callable[[np.ndarray], np.ndarray]]] = {
    "mirrored": (("-display_hflip",), 2, np.fliplr),
    "half_turned": (("-display_rotation", "180"), 3, partial(np.rot90, k=2)),
    "upside_down": (("-display_vflip",), 4, np.flipud),
    "turned_left": (("-display_rotation", "90"), 8, partial(np.rot90, k=-1)),
    "turned_right": (("-display_rotation", "270"), 6, partial(np.rot90, k=1)),
    # First turned to the left, then mirrored.
    "turned_left_and_mirrored": (
        ("-display_rotation", "90", "-display_hflip"), 7, lambda image: np.rot90(np.fliplr(image), -1),
    ),
    "turned_right_and_mirrored": (
        ("-display_rotation", "270", "-display_hflip"), 5, lambda image: np.rot90(np.fliplr(image), 1),
    ),
}  # fmt: skip


def displayed(suffix: str, how: str, folder: FieldFolder, name: str) -> FieldFile:
    """A matrix in the header turns or mirrors the frames."""
    options, orientation, upright = MIRRORS[how]
    plain = folder.converted(f"{name}_plain", folder.source(SECONDS, 10), MUXINGS["mp4_aac"])
    path = folder.folder / f"{name}.{suffix}"
    run_ffmpeg(*options, "-i", plain.path, "-c", "copy", path)
    plain.path.unlink()
    return replace(plain, path=path, orientation=orientation, upright=upright)


def turned_by_exif(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Each frame is a JPEG whose EXIF says that it is to be turned to the right."""
    orientation = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x112, 3, 1, 6, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(orientation) + 8) + b"Exif\0\0" + orientation

    def change(kind: str, time_s: float, packet: Any) -> Any:
        content = bytes(packet)
        return replaced(packet, content[:2] + exif + content[2:]) if kind == "video" else packet

    file = changed(replace(muxing, video=("-c:v", "mjpeg", "-q:v", "2")), change, folder, name)
    _, number, upright = MIRRORS["turned_right"]
    return replace(file, orientation=number, upright=upright)


def anamorphic(muxing: Muxing, aspect: tuple[int, int], folder: FieldFolder, name: str) -> FieldFile:
    """Pixels are not square: the frames were squeezed to the coded size."""
    wide, high = aspect
    size = (SIZE[0] * wide // high, SIZE[1]) if wide > high else (SIZE[0], SIZE[1] * high // wide)
    shown = folder.folder / f"{name}.shown.mkv"
    write_clip(shown, SECONDS, muxing.fps, size, audio=repeated, audio_codec="flac")
    source = replace(folder.source(SECONDS, muxing.fps), path=shown)
    squeezed = ("-vf", f"scale={SIZE[0]}:{SIZE[1]},setsar={wide}/{high}")
    file = folder.converted(name, source, muxing, *squeezed)
    shown.unlink()
    return replace(file, sample_aspect_ratio=wide / high)


LOSSLESS_STEREO = ["mov_pcm", "mkv_flac", "avi_pcm"]

AUDIO_KINDS: dict[str, Recipe] = {
    **{
        f"jitter_of_{how}_packet-{name}": partial(jittered, MUXINGS[name], how)
        for how in JITTER
        for name in ("mp4_aac", "mkv_aac", "mkv_vorbis", "webm_opus", "ts_aac", "flv_aac")
    },
    **of_each(many_frames_a_packet, ["mov_adpcm", "avi_adpcm", "wmv", "3gp_amr"]),
    **of_each(undecodable_audio, ["mp4_aac", "mkv_aac", "ts_aac", "flv_aac"]),
    **of_each(one_undecodable_packet, ["mp4_aac", "mkv_aac", "mkv_ac3", "mkv_vorbis", "mkv_flac"]),
    **of_each(lost_audio, ["mp4_aac", "mkv_aac", "ts_aac", "flv_aac"]),
    **of_each(postponed_audio, ["mp4_aac", "mkv_aac", "ts_aac", "flv_aac"]),
    **of_each(undecodable_frames, ["mkv_flac", "mov_pcm", "avi_pcm"]),
    **of_each(right_channel, [*LOSSLESS_STEREO, "mp4_aac", "webm_opus", "ts_aac"]),
    **of_each(right_of_eight, ["mp4_aac", "mkv_flac", "webm_opus"]),
    # Other encoders make noise of it.
    **of_each(constant_offset, LOSSLESS_STEREO),
    **of_each(two_rates, ["mp4_mp3", "mkv_ac3", "ts_aac", "ts_ac3"]),
    **of_each(turned_by_exif, ["mov_pcm", "avi_pcm"]),
    **{f"{how}-{suffix}": partial(displayed, suffix, how) for how in MIRRORS for suffix in ("mp4", "mov")},
    **{
        f"anamorphic_{wide}_{high}-{name}": partial(anamorphic, MUXINGS[name], (wide, high))
        for name in ("mp4_aac", "mov_pcm", "mkv_flac", "webm_opus", "avi_pcm", "ts_aac")
        for wide, high in [(2, 1)]
    },
    "anamorphic_1_2-mp4_aac": partial(anamorphic, MUXINGS["mp4_aac"], (1, 2)),
    "anamorphic_64_51-mp4_aac": partial(anamorphic, MUXINGS["mp4_aac"], (64, 51)),
}
