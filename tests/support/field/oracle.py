"""The ffmpeg program as the oracle: what it shows and plays of a file, and when, upright and with both streams mapped."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from support.field.expected import PIECE_ROWS, SAME_S, FieldFile
from support.field.reading import SIDE, SMALL_LEAD_S, DecodedClips, PreparedFolder, spread
from support.media import read_time_s, run_ffmpeg

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.media.audio import resampled
from cavsync.pipeline.media.mel import log_mel

# Packet times jitter by less than this; players play such samples one after the other.
JITTER_S = 0.025
# Squares of the display: its shorter side, from its middle.
CENTRE = f"scale=trunc(iw*sar+0.5):ih,setsar=1,crop=min(iw\\,ih):min(iw\\,ih),scale={SIDE}:{SIDE}"


@dataclass(frozen=True)
class ProgramOutput:
    """Times are seconds from the file's start."""

    frame_times_s: list[float]
    frames: np.ndarray  # (frames, side, side, 3) uint8, the centre squares
    audio_start_s: float
    audio: np.ndarray  # (samples,) float32 at 16 kHz from the file's start, 0 where there is none


@lru_cache(maxsize=1)  # for the clips of one file
def program_output(path: Path, channel: int, is_joined: bool = False) -> ProgramOutput:
    """Of `is_joined` files the program moves the times: they ascend from 0 on."""
    with av.open(str(path)) as media:
        origin_s = 0.0 if is_joined else (media.start_time or 0) / av.time_base
        rate_hz = media.streams.audio[0].rate
    decoded = path.with_suffix(".nut")
    frames, pieces = [], []
    try:
        times = () if is_joined else ("-copyts",)
        _decode(path, decoded, times, f"aresample={rate_hz},pan=mono|c0=c{channel}")
        with av.open(str(decoded)) as media:
            for packet in media.demux():
                if packet.size:
                    found = frames if packet.stream.type == "video" else pieces
                    found.append((float(packet.pts * packet.time_base) - origin_s, bytes(packet)))
    finally:
        decoded.unlink(missing_ok=True)
    placed = [(at_s, np.frombuffer(raw, np.float32)) for at_s, raw in pieces]
    return ProgramOutput(
        frame_times_s=[at_s for at_s, _ in frames],
        frames=np.stack([np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3) for _, raw in frames]),
        audio_start_s=placed[0][0],
        audio=resampled(_in_place(placed, rate_hz), rate_hz),
    )


def _decode(path: Path, decoded: Path, times: tuple[str, ...], one_channel: str) -> None:
    """Both streams, uncompressed and with their own times."""
    video = ("-map", "0:v:0", "-vf", CENTRE, "-fps_mode", "passthrough", "-enc_time_base:v", "demux")
    audio = ("-map", "0:a:0", "-af", one_channel, "-c:a", "pcm_f32le")
    raw = ("-c:v", "rawvideo", "-pix_fmt", "rgb24", "-avoid_negative_ts", "disabled")
    run_ffmpeg(*times, "-i", f"file:{path}", *video, *audio, *raw, decoded)


def _in_place(placed: list[tuple[float, np.ndarray]], rate_hz: int) -> np.ndarray:
    """(samples,) from the file's start: contiguous, unless a piece is off by more than the jitter."""
    last_s, last = placed[-1]
    track = np.zeros(round((last_s + 2 * JITTER_S) * rate_hz) + len(last), np.float32)
    begin = round(placed[0][0] * rate_hz)
    for at_s, samples in placed:
        if abs(at_s * rate_hz - begin) > JITTER_S * rate_hz:
            begin = round(at_s * rate_hz)
        kept = samples[max(0, -begin) :]
        track[max(0, begin) : max(0, begin) + len(kept)] = kept
        begin += len(samples)
    return track[: max(0, begin)]


def check_against_program(file: FieldFile, prepared: PreparedFolder) -> None:
    """The clips that were prepared have the program's frames at their instants, and its audio."""
    rows = {start_s: row for start_s, row in prepared.clips(file).items() if row["state"] == "ok"}
    assert rows, "no clip of the file is ok"
    for start_s, row in rows.items():
        check_row_against_program(file, start_s, row, prepared)


def check_row_against_program(
    file: FieldFile,
    start_s: float,
    row: dict[str, Any],
    clips: PreparedFolder | DecodedClips,
    apart_s: float = 0.0,
) -> None:
    """The program's times and the row's may be `apart_s`."""
    program = program_output(file.path, file.audio_channel or 0, file.is_joined)
    end_s = start_s + row["duration_s"]
    lead_s = max(start_s, program.frame_times_s[0])
    slack_s = SAME_S + apart_s + (lead_s - start_s if lead_s - start_s < SMALL_LEAD_S else 0.0)
    shown = zip(spread(lead_s, end_s, 16), row["frame_pts_s"], clips.images(row), strict=True)
    for instant_s, pts_s, image in shown:
        _check_frame(program, float(instant_s), start_s + pts_s, image, slack_s, SAME_S + apart_s)
    whole = program.audio[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
    _check_audio(log_mel(whole), clips.mel(row))


def _check_frame(
    program: ProgramOutput, instant_s: float, pts_s: float, image: np.ndarray, slack_s: float, apart_s: float
) -> None:
    """`image` (side, side, 3) is the program's at the instant, up to a change of frames within `slack_s`."""
    first, last = (
        max(0, bisect_right(program.frame_times_s, instant_s + by_s) - 1) for by_s in (-slack_s, slack_s)
    )
    at = f"at {instant_s:.3f} s"
    apart = [
        np.abs(program.frames[one].astype(int) - image.astype(int)).mean() for one in range(first, last + 1)
    ]
    assert min(apart) < 25, (
        at
    )  # of 255; two frames whose numbers differ by a bit are 8 or more apart, by four 30
    near = [abs(program.frame_times_s[one] - pts_s) for one in range(first, last + 1)]
    assert min(near) <= apart_s, f"{at}: {pts_s} s is {near} s off"


def _check_audio(expected: np.ndarray, mel: np.ndarray) -> None:
    """Both (rows, 128): the peaks of the rows are as loud, and of the same time."""
    count = min(len(expected), len(mel))
    assert abs(len(expected) - len(mel)) <= 10, f"{len(mel)} rows, the program gives {len(expected)}"
    loud, heard = expected[:count].max(axis=1), mel[:count].max(axis=1)
    audible = loud > loud.max() - 3
    apart = np.quantile(np.abs(heard - loud)[audible], 0.95)
    assert apart < 0.3, f"the loudest bands are {apart:.2f} apart"
    for first in range(10, count - PIECE_ROWS - 10, PIECE_ROWS):
        rows = slice(first, first + PIECE_ROWS)
        if audible[rows].all():
            one_s, other_s = read_time_s(expected[rows]), read_time_s(mel[rows].astype(np.float64))
            assert abs(one_s - other_s) < 0.015, f"{other_s:.3f} s, not {one_s:.3f} s"
