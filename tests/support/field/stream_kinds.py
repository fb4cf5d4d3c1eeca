"""Files of every container whose streams begin, end or lie in the file as real files' do: each with what a player shows."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import av
from support.field.expected import CLIP_S, FieldFile
from support.field.muxing import MUXINGS, FieldFolder, Muxing, remuxed

Recipe = Callable[[FieldFolder, str], FieldFile]  # of a folder and the file's name
# The 16 instants of such a clip, and of the second clip, are far from the change of any frame.
SECONDS = 2.4
SECONDS_OF_TWO_CLIPS = 12.4
LATE_S = 1.5
BEHIND_S = 8.0
TO_A_PIPE: dict[str, tuple[str, ...]] = {
    "webm_opus": (), "mkv_vorbis": (), "flv_aac": (), "ts_aac": (), "ogv": (),
    "fragmented_aac": ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-g", "10"),
}  # fmt: skip


def plain(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    return folder.converted(name, folder.source(SECONDS, muxing.fps), muxing)


def plain_of_11_s(folder: FieldFolder, name: str) -> FieldFile:
    """Longer than a clip by less than its shortest."""
    return folder.converted(name, folder.source(11.0, 25), MUXINGS["mpg_mp2"])


def later_clips(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Long enough that the second clip begins after a seek."""
    return folder.converted(name, folder.source(SECONDS_OF_TWO_CLIPS, muxing.fps), muxing)


def late_beginning(muxing: Muxing, folder: FieldFolder, name: str, begin_s: float = 100.0) -> FieldFile:
    """The times of the file begin late, as in the middle of a broadcast that went on for long."""
    return folder.converted(name, folder.source(12.0, muxing.fps), muxing, "-output_ts_offset", f"{begin_s}")


def wrapping_clock(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The clock of broadcasts has 33 bits for 90,000 ticks a second: after 26.5 hours, here in the middle, it begins anew."""
    return replace(late_beginning(muxing, folder, name, 2**33 / 90_000 - 6.0), is_joined=True)


def audio_first(muxing: Muxing, seconds: float, folder: FieldFolder, name: str) -> FieldFile:
    """As phones and many cameras write it."""
    return folder.converted(name, folder.source(seconds, muxing.fps), muxing, audio_first=True)


def far_apart(muxing: Muxing, behind_s: float, folder: FieldFolder, name: str) -> FieldFile:
    """In the file the audio lies `behind_s` behind the frames of its time."""
    whole = folder.converted(f"{name}_near", folder.source(24.0, muxing.fps), muxing)
    path = whole.path.rename(whole.path.with_suffix(".near"))
    remuxed(path, str(folder.folder / f"{name}.{muxing.suffix}"), audio_behind_s=behind_s)
    path.unlink()
    return replace(whole, path=folder.folder / f"{name}.{muxing.suffix}")


def long_fragments(folder: FieldFolder, name: str) -> FieldFile:
    """Fragments of 20 s: all of their frames, then all of their audio."""
    options = ("-movflags", "empty_moov+default_base_moof", "-frag_duration", "20000000")
    return folder.converted(name, folder.source(24.0, 10), MUXINGS["fragmented_aac"], *options)


def slideshow(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Four images, 11 s each."""
    source = folder.source(44.0, muxing.fps, (0.0, 11.0, 22.0, 33.0))
    return folder.converted(name, source, muxing)


def far_keyframes(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """28 s with a keyframe at 0 s and at 25 s, or at the farthest that the codec allows."""
    farthest = min(25 * muxing.fps, 600)
    options = ("-g", str(farthest), "-keyint_min", str(farthest), "-sc_threshold", "0")
    if muxing.video[1] != "libx264":
        options = ("-g", str(farthest), "-sc_threshold", "1000000000")
    return folder.converted(name, folder.source(28.0, muxing.fps), muxing, *options)


def still(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """One image under the audio."""
    return folder.converted(name, folder.source(SECONDS, muxing.fps, (0.0,)), muxing)


def held_end(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The frames stop at 2 s of 5."""
    times_s = tuple(n / muxing.fps for n in range(2 * muxing.fps))
    return folder.converted(name, folder.source(5.0, muxing.fps, times_s), muxing)


def held_middle(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """One frame stays from 1 s to 3.5 s, as in a recording of a screen."""
    fps = muxing.fps
    times_s = tuple(n / fps for n in range(5 * fps) if n <= fps or n >= 3.5 * fps)
    return folder.converted(name, folder.source(5.0, fps, times_s), muxing)


def late_frames(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The first frame comes at 1.5 s, the audio begins at 0 s."""
    fps = muxing.fps
    times_s = tuple(LATE_S + n / fps for n in range(round((5 - LATE_S) * fps)))
    return folder.converted(name, folder.source(5.0, fps, times_s), muxing)


def late_audio(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The audio begins at 1.5 s, the frames at 0 s."""
    source = folder.source(5.0, muxing.fps, audio_start_s=LATE_S)
    # The file begins with its first frame, so that an encoder's delay only makes the audio begin earlier.
    file = folder.converted(name, source, replace(muxing, delay=0))
    return replace(file, audio_gaps_s=((0.0, LATE_S - muxing.delay_s),))


def barely_both(folder: FieldFolder, name: str) -> FieldFile:
    """Frames and audio are both there for 0.6 s only."""
    times_s = tuple(SECONDS - 0.6 + n / 10 for n in range(6))
    file = folder.converted(name, folder.source(SECONDS, 10, times_s), MUXINGS["mkv_flac"])
    return replace(file, state="too_short")


def b_frames(muxing: Muxing, options: tuple[str, ...], folder: FieldFolder, name: str) -> FieldFile:
    """Frames are stored in another order than they are shown in."""
    # So long that no instant of a clip is on the first frame: of AVI the ffmpeg program shows that 0.1 s late.
    return folder.converted(name, folder.source(4.0, muxing.fps), muxing, *options)


def unknown_duration(key: str, folder: FieldFolder, name: str) -> FieldFile:
    """Written to a pipe, so that the header does not say how long it is."""
    muxing = MUXINGS[key]
    return folder.piped(name, folder.source(SECONDS_OF_TWO_CLIPS, muxing.fps), muxing, *TO_A_PIPE[key])


def cut_fast_start(folder: FieldFolder, name: str) -> FieldFile:
    """The first 35 % of an mp4 whose index comes first, as an interrupted download leaves it."""
    options = ("-movflags", "faststart", "-g", "10")
    whole = folder.converted(name, folder.source(24.0, 10), MUXINGS["mp4_aac"], *options)
    content = whole.path.read_bytes()
    end_s = _cut_s(whole, len(content) * 35 // 100)
    whole.path.write_bytes(content[: len(content) * 35 // 100])
    return replace(whole, end_s=end_s, tolerance_s=0.6)


def joined(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """Two files of 10 s, one after the other, whose times begin anew with the second; a player shows it after the first."""
    return _twice(folder.converted(name, folder.source(CLIP_S, muxing.fps), muxing))


def joined_of_unknown_length(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """As `joined`, of files that do not say how long they are, as recorders in browsers write them."""
    return _twice(folder.piped(name, folder.source(CLIP_S, muxing.fps), muxing))


def _twice(first: FieldFile) -> FieldFile:
    """The file, joined to itself."""
    first.path.write_bytes(2 * first.path.read_bytes())
    return replace(
        first,
        frame_times_s=(*first.frame_times_s, *(time_s + CLIP_S for time_s in first.frame_times_s)),
        numbers=2 * tuple(range(len(first.frame_times_s))),
        end_s=CLIP_S + first.end_s,
        is_joined=True,
    )


def set_clock(muxing: Muxing, folder: FieldFolder, name: str) -> FieldFile:
    """The clock was set back at 10 s; the stream's tables come again only later."""
    file = joined(muxing, folder, name)
    content = file.path.read_bytes()
    middle = len(content) // 2
    packets = [content[at : at + 188] for at in range(middle, len(content), 188)]
    frames = next(n for n, packet in enumerate(packets) if packet[1] & 0x1F == 1)  # tables have other numbers
    file.path.write_bytes(content[:middle] + b"".join(packets[frames:]))
    return file


def _cut_s(file: FieldFile, num_bytes: int) -> float:
    """Until when both streams lie whole in the first `num_bytes`."""
    with av.open(str(file.path)) as media:
        beyond = [p for p in media.demux() if p.size and p.pos + p.size > num_bytes]
    return min(float(packet.pts * packet.time_base) for packet in beyond)


# MXF must begin with its video stream.
AUDIO_FIRST = [name for name in MUXINGS if name not in ("mxf", "fragmented_aac")]
SPARSE = ["mp4_aac", "mov_pcm", "mkv_flac", "webm_opus", "ts_aac", "flv_aac", "wmv"]
B_FRAMES: dict[str, tuple[str, ...]] = {
    "mp4_aac": ("-bf", "2", "-b_strategy", "0"),
    "mkv_flac": ("-bf", "3", "-b_strategy", "0"),
    "flv_aac": ("-bf", "2", "-b_strategy", "0"),
    "ts_aac": ("-bf", "2", "-b_strategy", "0"),
}


def of_each(recipe: Callable[..., FieldFile], names: list[str], *values: Any) -> dict[str, Recipe]:
    kind = recipe.__name__
    return {f"{kind}-{name}": partial(recipe, MUXINGS[name], *values) for name in names}


STREAM_KINDS: dict[str, Recipe] = {
    **of_each(plain, ["mpg_mp2", "mxf", "ogv", "3gp_aac"]),
    "plain_of_11_s-mpg_mp2": plain_of_11_s,
    **of_each(later_clips, ["ogv_flac", "mov_palette", "avi_yamaha", "mkv_h263", "avi_h263"]),
    **of_each(late_beginning, ["mkv_flac", "webm_opus", "asf", "flv_aac", "ts_aac", "mpg_mp2"]),
    **of_each(audio_first, AUDIO_FIRST, SECONDS),
    "audio_first-of_20_s": partial(audio_first, MUXINGS["mp4_aac"], 20.0),
    **{f"audio_behind-{name}": partial(far_apart, MUXINGS[name], BEHIND_S)
       for name in ("mp4_aac", "mkv_flac", "webm_opus")},
    **{f"frames_behind-{name}": partial(far_apart, MUXINGS[name], -BEHIND_S)
       for name in ("mp4_aac", "mkv_flac", "webm_opus", "flv_aac")},
    "all_frames_before_all_audio-mkv_flac": partial(far_apart, MUXINGS["mkv_flac"], 100.0),
    "all_frames_before_all_audio-mov_pcm": partial(far_apart, MUXINGS["mov_pcm"], 100.0),
    "long_fragments-mp4_aac": long_fragments,
    **of_each(slideshow, ["mkv_vorbis", "mp4_aac", "webm_opus"]),
    **of_each(far_keyframes, ["ts_aac", "ts_mp2", "mpg_mp2", "flv_aac", "mkv_flac", "avi_pcm", "wmv"]),
    **of_each(still, SPARSE),
    **of_each(held_end, [*SPARSE, "avi_pcm", "ogv"]),
    **of_each(held_middle, SPARSE),
    **of_each(late_frames, ["mp4_aac", "mov_pcm", "mkv_flac", "webm_opus", "ts_aac", "flv_aac"]),
    **of_each(late_audio, ["mov_pcm", "mkv_flac", "webm_opus", "ts_aac", "flv_aac"]),
    "barely_both-mkv_flac": barely_both,
    **{f"b_frames-{name}": partial(b_frames, MUXINGS[name], options) for name, options in B_FRAMES.items()},
    "b_frames-avi_pcm": partial(b_frames, MUXINGS["avi_pcm"], ("-bf", "2", "-vtag", "XVID")),
    **{f"unknown_duration-{name}": partial(unknown_duration, name) for name in TO_A_PIPE},
    "cut_fast_start-mp4_aac": cut_fast_start,
    **of_each(wrapping_clock, ["ts_aac", "mpg_mp2"]),
    **of_each(set_clock, ["ts_aac", "ts_mp2"]),
    **of_each(joined, ["ts_aac", "ts_mp2", "mpg_mp2", "mkv_flac", "avi_pcm", "ogv", "ogv_flac"]),
    **of_each(joined_of_unknown_length, ["mkv_flac"]),
}  # fmt: skip
