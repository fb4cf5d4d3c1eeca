"""Small clips with known content: frame n shows the number n, the pitch of the audio gives the time.

The arithmetic, all on the source's clock, which begins with frame 0:

frame n       is on screen from n / fps until the next one
audio         at t is sin 2 pi (500 t + 150 t^2): a chirp whose frequency is 500 + 300 t Hz

A cut that begins at source time s shows frame floor((s + u) fps) at u seconds after the file's start, and its
audio has 500 + 300 (s + u) Hz there. Up to 21 s the chirp stays below 7 kHz, inside every mel bank.
"""

import math
import subprocess
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

CHIRP_START_HZ = 500.0
CHIRP_HZ_PER_S = 300.0
BLOCKS_PER_SIDE = 4  # 16 bits in the central square, the part that a centre crop keeps
CLOCK_HZ = 90_000  # a time base that NTSC rates divide: 30000/1001 is 3003 ticks a frame

Waveform = Callable[[np.ndarray], np.ndarray]


def chirp(times_s: np.ndarray) -> np.ndarray:
    """The samples at those source times, peak 0.5."""
    return 0.5 * np.sin(2 * np.pi * (CHIRP_START_HZ * times_s + CHIRP_HZ_PER_S / 2 * times_s**2))


def silence(times_s: np.ndarray) -> np.ndarray:
    return np.zeros_like(times_s)


@dataclass(frozen=True, kw_only=True)
class KnownClip:
    """A file, with the frame and the samples expected at any time after its start."""

    path: Path
    frame_times_s: tuple[float, ...]  # source time of every coded frame, by frame number
    duration_s: float
    source_start_s: float = 0.0  # source time at the file's start
    audio_start_s: float = 0.0  # the first sample, from the file's start
    waveform: Waveform = chirp
    turned: int = 0  # quarter turns to the left that a player makes

    def frame_number_at(self, time_s: float) -> int:
        """The number on screen `time_s` after the file's start."""
        source_s = self.source_start_s + time_s + 1e-6  # a frame is on screen at its own time
        return max(0, bisect_right(self.frame_times_s, source_s) - 1)

    def chirp_hz_at(self, time_s: float) -> float:
        return CHIRP_START_HZ + CHIRP_HZ_PER_S * (self.source_start_s + time_s)


def numbered_frame(number: int, size: tuple[int, int]) -> np.ndarray:
    """A grey (height, width, 3) image; its central square is 4 x 4 blocks, the bits of `number`, highest first."""
    width, height = size
    side = min(size) // BLOCKS_PER_SIDE * BLOCKS_PER_SIDE
    bits = (number >> np.arange(BLOCKS_PER_SIDE**2)[::-1]) & 1
    blocks = np.kron(bits.reshape(BLOCKS_PER_SIDE, -1), np.ones((side // BLOCKS_PER_SIDE,) * 2))
    image = np.full((height, width, 3), 128, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    image[top : top + side, left : left + side] = (blocks * 255).astype(np.uint8)[..., None]
    return image


def read_frame_number(image: np.ndarray) -> int:
    """The number that a (height, width, 3) image shows, whole or cropped to its central square."""
    height, width = image.shape[:2]
    cell = min(height, width) / BLOCKS_PER_SIDE
    top, left = (height - BLOCKS_PER_SIDE * cell) / 2, (width - BLOCKS_PER_SIDE * cell) / 2
    number = 0
    for row, column in np.ndindex(BLOCKS_PER_SIDE, BLOCKS_PER_SIDE):
        ys = slice(int(top + (row + 0.25) * cell), int(top + (row + 0.75) * cell))
        xs = slice(int(left + (column + 0.25) * cell), int(left + (column + 0.75) * cell))
        grey = image[ys, xs].mean()
        if 80 < grey < 176:
            raise ValueError(f"block ({row}, {column}) is neither black nor white: {grey=:.0f}")
        number = 2 * number + int(grey >= 128)
    return number


def read_time_s(mel: np.ndarray, low_hz: float = 20.0, high_hz: float = 8000.0) -> float:
    """The source time at the beginning of (rows, mels) Kaldi log-mel rows of the chirp, within 1 ms.

    The power-weighted centre of each row's peak gives its frequency, and so its time; row r's centre is
    10 r + 12.5 ms after the first row's beginning. Fifty rows or more average the steps of the mel bank out.
    """
    mels = np.linspace(_mel(low_hz), _mel(high_hz), mel.shape[1] + 2)[1:-1]
    near = np.abs(np.arange(mel.shape[1]) - mel.argmax(axis=1)[:, None]) <= 2
    power = np.where(near, np.exp(mel.astype(np.float64)), 0.0)
    peak_hz = 700 * np.expm1((power @ mels) / power.sum(axis=1) / 1127)
    times_s = (peak_hz - CHIRP_START_HZ) / CHIRP_HZ_PER_S
    return float(np.mean(times_s - 0.01 * np.arange(len(mel)))) - 0.0125


def _mel(hz: float) -> float:
    return 1127 * math.log1p(hz / 700)


def lag_s(audio: np.ndarray, expected: np.ndarray, rate_hz: int) -> float:
    """How much later `audio` comes than `expected`, both (samples,), by the peak of their correlation."""
    size = len(audio) + len(expected)
    spectrum = np.fft.rfft(audio, size) * np.conj(np.fft.rfft(expected, size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return (lag if lag < len(audio) else lag - size) / rate_hz


def write_clip(
    path: Path,
    duration_s: float = 10.0,
    fps: Fraction | float = 25,
    size: tuple[int, int] = (160, 120),
    *,
    audio: Waveform = chirp,
    video_codec: str | None = "libx264",
    audio_codec: str | None = "aac",
    sample_rate: int = 44100,
    channels: int = 1,
    start_s: float = 0.0,
    audio_start_s: float = 0.0,
    audio_stop_s: float | None = None,
    frame_times_s: Sequence[float] | None = None,
    video_options: dict[str, str] | None = None,
) -> KnownClip:
    """Write a clip of numbered frames and `audio`; the container follows the path's suffix.

    Both streams are stamped `start_s` later than their source time, and the audio before `audio_start_s` is
    left out, not delayed. `audio_stop_s` replaces `duration_s` for the audio, `frame_times_s` replaces n / fps.
    A codec of None leaves that stream out.
    """
    times_s = frame_times_s or [n / fps for n in range(math.ceil(duration_s * fps))]
    with av.open(str(path), "w") as container:
        # Both streams must exist before the first packet is written.
        video = video_codec and _add_video(container, video_codec, fps, size, video_options)
        audio_stream = audio_codec and container.add_stream(
            audio_codec, rate=sample_rate, layout="mono" if channels == 1 else "stereo"
        )
        if video:
            _encode_frames(container, video, times_s, size, start_s)
        if audio_stream:
            span_s = (audio_start_s, audio_stop_s or duration_s)
            _encode_audio(container, audio_stream, audio, sample_rate, span_s, start_s)
    return KnownClip(
        path=path,
        frame_times_s=tuple(float(time_s) for time_s in times_s),
        duration_s=min(duration_s, audio_stop_s or duration_s),
        audio_start_s=audio_start_s,
        waveform=audio,
    )


def _add_video(
    container: Any, codec: str, fps: Fraction | float, size: tuple[int, int], options: dict[str, str] | None
) -> Any:
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
    fast = {"preset": "ultrafast", "threads": "1"} if codec == "libx264" else {}
    stream.options = fast | (options or {})
    return stream


def _encode_frames(
    container: Any, stream: Any, times_s: Sequence[float], size: tuple[int, int], start_s: float
) -> None:
    for number, time_s in enumerate(times_s):
        frame = av.VideoFrame.from_ndarray(numbered_frame(number, size), format="rgb24")
        frame.pts, frame.time_base = round((start_s + time_s) * CLOCK_HZ), Fraction(1, CLOCK_HZ)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _encode_audio(
    container: Any, stream: Any, audio: Waveform, rate: int, span_s: tuple[float, float], start_s: float
) -> None:
    first, stop = round(span_s[0] * rate), round(span_s[1] * rate)
    samples = audio(np.arange(first, stop) / rate).astype(np.float32)
    channels = stream.codec_context.channels
    # Interleaved 16 bits is the one layout that PyAV's resampler turns into any encoder's own.
    pcm = np.repeat(np.rint(samples * 32767).astype(np.int16), channels)[None]
    frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=stream.layout.name)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frame.pts = first + round(start_s * rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def run_ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def cut_without_decoding(source: KnownClip, path: Path, start_s: float, duration_s: float) -> KnownClip:
    """`ffmpeg -ss S -t D -c copy`, the usual way to cut: the file keeps frames from before the cut, and an
    edit list that hides them. Players that count frames instead of reading their times are seconds off."""
    run_ffmpeg("-ss", f"{start_s}", "-i", source.path, "-t", f"{duration_s}", "-c", "copy", path)
    return replace(source, path=path, source_start_s=start_s, duration_s=duration_s)


# Recipes: each writes one clip into a folder and returns its expected content.
NTSC = Fraction(30000, 1001)
# Just before frame 100, at 3.33667 s, so that frames 0 to 99 are hidden. A cut inside a frame proves
# less: FFmpeg's demuxer drops the begun frame and shows the next one early, a frame off the audio.
EDIT_LIST_START_S = 3.3366


def plain(folder: Path) -> KnownClip:
    return write_clip(folder / "plain.mp4")


def edit_list(folder: Path) -> KnownClip:
    options = {"g": "100", "keyint_min": "100", "sc_threshold": "0", "bf": "0"}
    source = write_clip(folder / "edit_list.source.mp4", 14.0, NTSC, video_options=options)
    return cut_without_decoding(source, folder / "edit_list.mp4", EDIT_LIST_START_S, 10.0)


def edit_list_b_frames(folder: Path) -> KnownClip:
    options = {"preset": "veryfast", "g": "160", "keyint_min": "160", "sc_threshold": "0", "bf": "2"}
    source = write_clip(folder / "edit_list_b_frames.source.mp4", 14.0, NTSC, video_options=options)
    return cut_without_decoding(source, folder / "edit_list_b_frames.mp4", EDIT_LIST_START_S, 10.0)


def b_frames(folder: Path) -> KnownClip:
    return write_clip(
        folder / "b_frames.mp4", video_options={"preset": "veryfast", "bf": "3", "b-adapt": "0"}
    )


def variable_rate(folder: Path) -> KnownClip:
    """5 s at 10 frames/s, then 5 s at 30."""
    times_s = [n / 10 for n in range(50)] + [5 + n / 30 for n in range(150)]
    return write_clip(folder / "variable_rate.mp4", fps=30, frame_times_s=times_s)


def late_audio(folder: Path) -> KnownClip:
    return write_clip(folder / "late_audio.mp4", audio_start_s=0.7)


def non_zero_start(folder: Path) -> KnownClip:
    """Both streams begin at 1.4 s, as in a transport stream."""
    return write_clip(folder / "non_zero_start.mkv", start_s=1.4)


def no_audio(folder: Path) -> KnownClip:
    return write_clip(folder / "no_audio.mp4", audio_codec=None)


def no_video(folder: Path) -> KnownClip:
    return write_clip(folder / "no_video.mp4", video_codec=None)


def not_a_video(folder: Path) -> KnownClip:
    path = folder / "not_a_video.mp4"
    path.write_text("<html><title>410 Gone</title></html>\n" * 40)
    return KnownClip(path=path, frame_times_s=(), duration_s=0.0)


def truncated(folder: Path) -> KnownClip:
    """The first 60 % of a whole file, as an interrupted download leaves it: the index at its end is missing."""
    whole = write_clip(folder / "truncated.whole.mp4")
    path = folder / "truncated.mp4"
    content = whole.path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    return replace(whole, path=path)


# Clips that show what they must, and files that cannot be prepared.
GOOD_CLIPS: dict[str, Callable[[Path], KnownClip]] = {
    recipe.__name__: recipe
    for recipe in (plain, edit_list, edit_list_b_frames, b_frames, variable_rate, late_audio, non_zero_start)
}
BAD_CLIPS: dict[str, Callable[[Path], KnownClip]] = {
    recipe.__name__: recipe for recipe in (no_audio, no_video, not_a_video, truncated)
}
