"""Proves that a decoder process holds no more after many clips than after the first ones."""

import os
import re
from pathlib import Path

from support.media import run_ffmpeg

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.decoding.process import DecoderProcess

# Without a collection after each clip, 12 clips of 720p raise the peak by 70 MiB.
GROWTH_MIB = 24


def test_memory_does_not_grow_with_the_clips(tmp_path: Path) -> None:
    path = tmp_path / "720p.mp4"
    both = ("-f", "lavfi", "-i", "testsrc2=s=1280x720:d=4:r=5", "-f", "lavfi", "-i", "sine=d=4")
    run_ffmpeg(*both, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path)
    times = {"source_start_s": 0.0, "start_s": 0.0, "end_s": 4.0}
    row = PlanRow(key="clip", clip_id="clip", split="train", shard="train-00000", source=str(path), **times)
    with DecoderProcess() as decoder:
        peaks = [prepared_peak_mib(decoder, row) for _ in range(12)]
    assert peaks[-1] - peaks[2] < GROWTH_MIB, peaks


def prepared_peak_mib(decoder: DecoderProcess, row: PlanRow) -> float:
    assert decoder.prepare(row, PrepareConfig()).state == "ok"
    (pid,) = (
        child
        for tasks in Path(f"/proc/{os.getpid()}/task").glob("*/children")
        for child in tasks.read_text().split()
        if "decoding.worker" in Path(f"/proc/{child}/cmdline").read_text()
    )
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert peak
    return int(peak[1]) / 1024
