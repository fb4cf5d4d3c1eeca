"""Clips to measure on: those of a folder, or synthesised ones of the sizes that the web has."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ffmpeg

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.lists.folder import folder_listing
from cavsync.pipeline.media.backends.ffmpeg_program import ffmpeg_path
from cavsync.pipeline.plan.plan import Plan, make_plan

FOLDER = Path("build/bench/clips")
DURATION_S = 10


class Size(NamedTuple):
    width: int
    height: int
    fps: int
    start_s: float  # where in the zoom the clip begins


# AudioSet's and VGGSound's uploads are mostly 360p, some small, some large.
SYNTHESISED: Mapping[str, Size] = {
    "small-1": Size(256, 144, 15, 0),
    "small-2": Size(320, 240, 30, 5),
    "medium-1": Size(480, 360, 25, 10),
    "medium-2": Size(640, 360, 30, 15),
    "medium-3": Size(640, 360, 24, 20),
    "large": Size(1280, 720, 30, 25),
}


def plan_rows(videos: Path, config: PrepareConfig) -> list[PlanRow]:
    """The first ten seconds of each file in the folder, as rows of one shard."""
    listing = folder_listing(videos)
    table = make_plan(listing.clips({}), listing.tree(), "whole", config.shard_size, config.seed)
    return Plan(table, {}).rows(slice(0, len(table)))


def link(video: Path, folder: Path, count: int) -> None:
    """`count` clips of equal cost: links to one file."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}{video.suffix}").symlink_to(video.resolve())


def synthesised() -> Path:
    """A folder with one H.264 and AAC file of each size; made once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, size in SYNTHESISED.items():
        path = FOLDER / f"{name}.mp4"
        if not path.exists():
            _synthesise(path, size)
    return FOLDER


def _synthesise(path: Path, size: Size) -> None:
    """Ten seconds of a zoom with grain, so that frames move and differ everywhere, and of noise with a tone."""
    frames = (
        f"mandelbrot=size={size.width}x{size.height}:rate={size.fps}:start_scale={3 / (1 + size.start_s)}"
    )
    video = ffmpeg.input(frames, f="lavfi", t=DURATION_S).filter("noise", alls=8, allf="t")
    tone = ffmpeg.input("sine=frequency=440:sample_rate=44100", f="lavfi", t=DURATION_S)
    hiss = ffmpeg.input("anoisesrc=amplitude=0.2:sample_rate=44100:seed=1", f="lavfi", t=DURATION_S)
    audio = ffmpeg.filter([tone, hiss], "amix", inputs=2)
    temporary = path.with_suffix(".part.mp4")
    # The coder's own choice of key frames and B-frames, which most files on the web have.
    coded = {"vcodec": "libx264", "preset": "fast", "crf": 26, "pix_fmt": "yuv420p", "ac": 2}
    ffmpeg.output(video, audio, str(temporary), **coded).run(
        cmd=ffmpeg_path(), quiet=True, overwrite_output=True
    )
    temporary.rename(path)
