"""Makes a world in a folder; an interrupted one is continued, a complete one is left as it is."""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cavsync.pipeline.media.encode import Mp4
from cavsync.pipeline.synthetic.classes import CLASSES
from cavsync.pipeline.synthetic.clip import WorldClip, list_clip, render_clip
from cavsync.pipeline.synthetic.config import SPLITS, WorldConfig, WorldError
from cavsync.pipeline.synthetic.lists import write_lists
from cavsync.pipeline.synthetic.masks import write_masks
from cavsync.pipeline.synthetic.paths import WorldPaths


@dataclass(frozen=True)
class WorldSummary:
    """A complete world, and the work of this call."""

    root: Path
    config: WorldConfig
    num_clips: int
    num_written: int  # the others existed before
    elapsed_s: float


def make_world(
    config: WorldConfig, out: Path, workers: int = 1, on_clip: Callable[[], None] | None = None
) -> WorldSummary:
    """The complete world of `config` in `out`; `on_clip` is called after each clip.

    A complete world is left as it is, without calls of `on_clip`; an interrupted one is continued. Raises WorldError
    where `out` holds a world of another configuration.
    """
    begun_s, paths = time.monotonic(), WorldPaths(out)
    clips = list_clips(config)
    _claim(paths, config)
    num_written = 0
    if not paths.summary.exists():
        # Closed, so that an error in `on_clip` stops the workers too.
        with closing(_write_clips(paths, config, clips, workers)) as progress:
            for written in progress:
                num_written += written
                if on_clip:
                    on_clip()
        write_lists(paths, config, clips)
        _write_json(paths, paths.summary, _summary(paths, config, clips))
        shutil.rmtree(paths.partial)  # with temporary files of killed runs
    return WorldSummary(out, config, len(clips), num_written, time.monotonic() - begun_s)


def list_clips(config: WorldConfig) -> list[WorldClip]:
    """All clips of a world, split by split, without rendering them."""
    return [list_clip(config, split, number) for split in SPLITS for number in range(config.num_clips(split))]


def read_world(root: Path) -> dict[str, Any]:
    """The content of `world.json`: config, class names, and for each clip its files and turns."""
    path = WorldPaths(root).summary
    if not path.exists():
        raise WorldError(
            f"{root} holds no complete world: {path.name} is not there. Call make_world to finish it."
        )
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _claim(paths: WorldPaths, config: WorldConfig) -> None:
    """Write the configuration to the folder. Raises WorldError where another one is there."""
    wanted = config.to_json()
    if not paths.config.exists():
        paths.make_folders()
        _write_json(paths, paths.config, wanted)
    found = json.loads(paths.config.read_text())
    differences = [
        f"{name} is {found.get(name)} there, {wanted.get(name)} was requested"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        raise WorldError(
            f"{paths.root} holds another world: {'; '.join(differences)}. "
            "Choose another folder, or delete this one."
        )


def _write_clips(
    paths: WorldPaths, config: WorldConfig, clips: Sequence[WorldClip], workers: int
) -> Generator[bool]:
    """For each clip as it is done: whether it was written by this call."""
    paths.make_folders()
    write = partial(_write_clip, paths, config)
    if workers <= 1:
        yield from map(write, clips)
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(write, clip) for clip in clips]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_clip(paths: WorldPaths, config: WorldConfig, clip: WorldClip) -> bool:
    """Write the clip's files unless its video exists; the video is written last."""
    video, link = paths.video(clip), paths.audioset_video(clip)
    missing = not video.exists()
    if missing:
        rendered = render_clip(config, clip.split, clip.number)
        if clip.split in config.masked_splits:
            with paths.written(paths.masks(clip)) as partial:
                write_masks(partial, rendered.masks, rendered.frame_times_s)
        with paths.written(video) as partial:
            size = (config.side_px, config.side_px)
            with Mp4(partial, size, config.fps, config.sample_rate_hz) as film:
                film.add_frames(rendered.frames)
                film.add_audio(rendered.waveform)
    if clip.split != "solo" and not link.exists():
        os.link(video, link)
    return missing


def _summary(paths: WorldPaths, config: WorldConfig, clips: Sequence[WorldClip]) -> dict[str, Any]:
    return {
        "config": config.to_json(),
        "made_with": {package: version(package) for package in ("cavsync", "av", "numpy", "pillow")},
        "classes": [sounding.name for sounding in CLASSES],
        "clips": [_facts(paths, config, clip) for clip in clips],
    }


def _facts(paths: WorldPaths, config: WorldConfig, clip: WorldClip) -> dict[str, Any]:
    """Ground truth of one clip; times are seconds from its start, paths are relative to the world's folder."""
    masked = clip.split in config.masked_splits
    return {
        "id": clip.clip_id,
        "start_s": clip.start_s,
        "split": clip.split,
        "number": clip.number,
        "label": clip.main_class,
        "video": str(paths.video(clip).relative_to(paths.root)),
        "masks": str(paths.masks(clip).relative_to(paths.root)) if masked else None,
        "turns": [
            {
                "class": turn.sounding.name,
                "start_s": round(max(0.0, turn.start_s), 3),
                "end_s": round(min(config.duration_s, turn.end_s), 3),
                "radius": round(turn.radius, 4),
                "level_dbfs": round(turn.level_dbfs, 2),
                # Only where it is not, so that the easy world keeps its bytes.
                **({} if turn.on_screen else {"on_screen": False}),
            }
            for turn in clip.timeline.turns
        ],
    }


def _write_json(paths: WorldPaths, path: Path, content: dict[str, Any]) -> None:
    with paths.written(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
