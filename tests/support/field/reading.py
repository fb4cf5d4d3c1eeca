"""Reads files through the product's doors, and compares what comes out with what a player shows and plays."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from support.command_line import run
from support.field.expected import (
    CLIP_S,
    SAME_S,
    FieldFile,
    check_heard,
    check_named,
    check_pitch,
    check_shown,
)

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import row_columns
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import MediaSegment, PreparedClip
from cavsync.pipeline.decoding.segments import VideoSegments
from cavsync.pipeline.decoding.windows import SlidingWindows, Window, WindowSpec
from cavsync.pipeline.media.mel import log_mel

SIDE = 64  # of the frames, in pixels
# A late start by less than this may count as none when the frames of a clip are spread.
SMALL_LEAD_S = 0.11
FRAMES_PER_S = 2.0
WINDOW = WindowSpec(rows=64, step_rows=32, side=SIDE)


def read_image(jpeg: bytes) -> np.ndarray:
    """(height, width, 3) uint8"""
    return np.asarray(Image.open(io.BytesIO(jpeg)))


class PreparedFolder:
    """Every clip of every file of a folder, as `cavsync prepare` stores them."""

    def __init__(self, videos: Path, out: Path) -> None:
        self.out = out
        options = ("--clips", "all", "--workers", "1", "--frame-size", str(SIDE), "--max-failure-rate", "1")
        self.result = run("prepare", "folder", videos, "--out", out, *options)
        found = sorted((out / "index").glob("*.parquet")) if (out / "index").is_dir() else []
        self.rows = [row | {"shard": path.stem} for path in found for row in pq.read_table(path).to_pylist()]

    def clips(self, file: FieldFile) -> dict[float, dict[str, Any]]:
        """The rows of the index of a file's clips, by their start in seconds."""
        return {row["start_s"]: row for row in self.rows if Path(row["source"] or "").name == file.path.name}

    def images(self, row: dict[str, Any]) -> list[np.ndarray]:
        places = zip(row["frame_offset"], row["frame_size"], strict=True)
        return [read_image(self._bytes(row, offset, size)) for offset, size in places]

    def mel(self, row: dict[str, Any]) -> np.ndarray:
        """(rows, 128) float16"""
        stored: np.ndarray = np.load(io.BytesIO(self._bytes(row, row["mel_offset"], row["mel_size"])))
        return stored

    def _bytes(self, row: dict[str, Any], offset: int, size: int) -> bytes:
        with (self.out / "shards" / f"{row['shard']}.tar").open("rb") as tar:
            tar.seek(offset)
            return tar.read(size)


class DecodedClips:
    """The first clip of single files, as the decoder process gives it to `cavsync prepare`."""

    def __init__(self, decoder: DecoderProcess) -> None:
        self._decoder = decoder
        self._clip: PreparedClip | None = None

    def first_clip(self, file: FieldFile, **config: Any) -> dict[str, Any]:
        """Its row of the index, with `config` of the preparation."""
        times = {"source_start_s": 0.0, "start_s": 0.0, "end_s": CLIP_S}
        names = {"key": "clip", "clip_id": "clip", "split": "train", "shard": "train-00000"}
        row = PlanRow(**names, **times, source=str(file.path))  # type: ignore[arg-type]
        self._clip = self._decoder.prepare(row, PrepareConfig(**{"frame_size": SIDE} | config))
        return row_columns(self._clip.row)

    def images(self, row: dict[str, Any]) -> list[np.ndarray]:
        assert self._clip is not None
        return [read_image(jpeg) for jpeg in self._clip.frames]

    def mel(self, row: dict[str, Any]) -> np.ndarray:
        """(rows, 128) float16"""
        assert self._clip is not None
        assert self._clip.mel is not None
        return self._clip.mel


def spread(lead_s: float, end_s: float, count: int) -> np.ndarray:
    """(count,) instants: the middles of equal parts of [lead_s, end_s)."""
    instants_s: np.ndarray = lead_s + (np.arange(count) + 0.5) * (end_s - lead_s) / count
    return instants_s


def check_clips(file: FieldFile, prepared: PreparedFolder) -> None:
    """Each clip of the file is there as a player shows and plays it, and nothing beyond its end is `ok`."""
    rows = prepared.clips(file)
    assert rows, f"{file.path.name} was not listed: {prepared.result.output[-2000:]}"
    wanted = file.clip_starts_s()
    assert set(wanted) <= set(rows), f"of the clips at {wanted} s only those at {sorted(rows)} s are listed"
    for start_s, row in rows.items():
        state = file.state if start_s in wanted else "too_short"
        assert row["state"] == state, f"the clip at {start_s:g} s is {row['state']}: {row['reason']}"
        if state == "ok":
            check_clip(file, start_s, row, prepared)


def check_clip(
    file: FieldFile, start_s: float, row: dict[str, Any], prepared: PreparedFolder | DecodedClips
) -> None:
    end_s = start_s + row["duration_s"]
    wanted_s = min(file.end_s, start_s + CLIP_S)
    assert abs(end_s - wanted_s) <= file.tolerance_s, f"the clip ends at {end_s} s, not at {wanted_s} s"
    lead_s = max(start_s, file.lead_s)
    slack_s = lead_s - start_s if lead_s - start_s < SMALL_LEAD_S else 0.0
    instants_s = spread(lead_s, end_s, len(row["frame_pts_s"]))
    assert len(instants_s) == 16
    begins_s = start_s + np.array(row["frame_pts_s"])
    check_shown(file, instants_s.tolist(), begins_s.tolist(), prepared.images(row), slack_s)
    positions = {file.position_at(time_s) for time_s in instants_s}
    assert row["still"] == (len(positions) == 1), f"still: {row['still']}, {len(positions)} frames"
    assert row["silent"] == file.silent, f"silent: {row['silent']}"
    mel = prepared.mel(row)
    assert len(mel) == row["num_mel_rows"] == 1 + (round(row["duration_s"] * SAMPLE_RATE_HZ) - 400) // 160
    named = row.get("audio_gaps_s")
    check_heard(file, start_s, mel, None if named is None else tuple(map(tuple, named)))


def check_gaps(file: FieldFile, prepared: PreparedFolder) -> None:
    """The index names what is not there, of each clip."""
    for start_s in file.clip_starts_s():
        check_clip_gaps(file, start_s, prepared.clips(file)[start_s])


def check_clip_gaps(file: FieldFile, start_s: float, row: dict[str, Any]) -> None:
    audio, frames = file.within(start_s, start_s + row["duration_s"])
    check_named(audio, row["audio_gaps_s"], file.gap_tolerance_s)
    check_named(frames, row["frame_gaps_s"], file.gap_tolerance_s)


def read_windows(file: FieldFile, decoder: DecoderProcess) -> tuple[SlidingWindows, list[Window]]:
    sliding = SlidingWindows(file.path, WINDOW, decoder)
    return sliding, [window for batch in sliding for window in batch]


def check_windows(file: FieldFile, sliding: SlidingWindows, windows: Sequence[Window]) -> None:
    """The windows follow one another to the file's end, each with the frame and the audio of its middle."""
    steps_s = [window.start_s for window in windows[:-1]]
    np.testing.assert_allclose(steps_s, 0.32 * np.arange(len(steps_s)), atol=1e-9)
    longer_s = sliding.duration_s - file.end_s  # the last frame may outlast the audio
    assert -file.tolerance_s <= longer_s <= 0.1 + file.tolerance_s, f"it lasts {sliding.duration_s} s"
    last_s = windows[-1].end_s  # up to a row of log-mel
    assert abs(last_s - file.end_s) <= file.tolerance_s + 0.03, f"of {file.end_s} s windows cover {last_s} s"
    for window in windows:
        check_window(file, window)


def check_window(file: FieldFile, window: Window) -> None:
    middle_s = (window.start_s + window.end_s) / 2 + 0.0075  # of its rows of 25 ms
    at = f"in the window at {window.start_s:g} s"
    if not _is_near(file.frame_gaps_s, middle_s):
        assert (window.frame is None) == _is_inside(file.frame_gaps_s, middle_s), f"{at} {window.frame_s=}"
    if window.frame is not None and window.frame_s is not None:
        check_shown(file, [middle_s], [window.frame_s], [read_image(window.frame)], slack_s=0.01)
    if not _is_near((*file.audio_gaps_s, (file.end_s, file.end_s)), middle_s):
        assert (window.mel is None) == (file.silent or _is_inside(file.audio_gaps_s, middle_s)), (
            f"{at} there is {'no' if window.mel is None else 'a'} log-mel"
        )
    if window.mel is not None and len(window.mel) == WINDOW.rows:
        check_pitch(file, window.start_s, window.mel)


def _is_inside(spans: Sequence[tuple[float, float]], time_s: float) -> bool:
    return any(start_s <= time_s < stop_s for start_s, stop_s in spans)


def _is_near(spans: Sequence[tuple[float, float]], time_s: float) -> bool:
    """Whether an edge of the spans is so near that rounding decides."""
    return any(abs(time_s - edge_s) < 0.1 for span in spans for edge_s in span)


def read_segments(file: FieldFile, decoder: DecoderProcess) -> list[MediaSegment]:
    """As `eval synchrony --video` reads a video."""
    return list(VideoSegments(file.path, FRAMES_PER_S, SIDE, decoder))


def check_segments(file: FieldFile, segments: Sequence[MediaSegment]) -> None:
    """The segments join without a seam, each with evenly spread frames and its audio."""
    for segment in segments:
        images = [read_image(jpeg) for jpeg in segment.frames]
        end_s = segment.start_s + len(segment.waveform) / SAMPLE_RATE_HZ
        lead_s = max(segment.start_s, file.lead_s)
        slack_s = lead_s - segment.start_s if lead_s - segment.start_s < SMALL_LEAD_S else 0.0
        instants_s = spread(lead_s, end_s, len(images))
        check_shown(file, instants_s.tolist(), segment.frame_times_s, images, slack_s + SAME_S)
        check_heard(file, segment.start_s, log_mel(segment.waveform))
    starts_s = [segment.start_s for segment in segments]
    ends_s = [one.start_s + len(one.waveform) / SAMPLE_RATE_HZ for one in segments]
    np.testing.assert_allclose(starts_s, [0.0, *ends_s[:-1]], atol=1e-3)
    assert abs(ends_s[-1] - file.end_s) <= file.tolerance_s, (
        f"of {file.end_s} s segments cover {ends_s[-1]} s"
    )
    assert all(segment.is_silent == file.silent for segment in segments)
