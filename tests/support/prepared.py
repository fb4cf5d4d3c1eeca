"""A small prepared dataset with every kind of clip, and ways to damage a copy of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import Result
from support.command_line import run
from support.media import run_ffmpeg, silence, write_clip

from cavsync.pipeline.dataset.index_row import index_schema
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.storage.path import sha256

OPTIONS = ("--shard-size", "3", "--num-frames", "4", "--frame-size", "32", "--max-failure-rate", "1")
# Video b has a clip in both splits; the first one is listed twice.
LISTED = ("a,0,dog,train", "b,0,cat,train", "c,0,dog,train", "d,0,dog,train", "e,0,cow,train", "b,1,cat,test")
LISTED += ("f,0,dog,test", "g,0,dog,test", "a,0,dog,train")


def data(*arguments: str | Path) -> Result:
    """`cavsync data ...`"""
    return run("data", *arguments)


def write_videos(root: Path) -> None:
    """a plain, b 2.5 s, c silent, d still, e broken, f missing, g plain; and the list of them."""
    videos = root / "videos"
    videos.mkdir()
    write_clip(videos / "a.mp4", 1.5)
    write_clip(videos / "b.mp4", 2.5)
    write_clip(videos / "c.mp4", 1.5, audio=silence)
    write_clip(root / "d.mp4", 1.5)
    run_ffmpeg("-i", root / "d.mp4", "-vf", "select='eq(n,0)',loop=36:1,setpts=N/25/TB", videos / "d.mp4")
    (videos / "e.mp4").write_text("410 Gone")
    shutil.copy(videos / "a.mp4", videos / "g.mp4")
    (root / "list.csv").write_text("\n".join([*LISTED, ""]))


def prepare_vggsound(root: Path, *options: str) -> Path:
    """Prepare, or go on to prepare, the videos of `root` into `root`/out."""
    paths = ("--list", root / "list.csv", "--videos", root / "videos", "--out", root / "out")
    result = run("prepare", "vggsound", *paths, *OPTIONS, *options)
    assert result.exit_code == 0, result.output
    return root / "out"


def rewrite_index(out: Path, shard: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of an index, and make the done-record agree with the new file."""
    paths = DatasetPaths(out)
    rows = pq.read_table(paths.index(shard)).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), paths.index(shard))
    rewrite_record(out, shard, index_sha256=sha256(paths.index(shard)))


def rewrite_tar(out: Path, shard: str, change: Callable[[bytearray], None]) -> None:
    """Change the bytes of a tar, and make the done-record agree with the new file."""
    path = DatasetPaths(out).tar(shard)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    rewrite_record(out, shard, tar_sha256=sha256(path), tar_bytes=len(content))


def rewrite_record(out: Path, shard: str, **changes: Any) -> None:
    path = DatasetPaths(out).done(shard)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path, offset: int) -> None:
    """Change the lowest bit of a file's byte at `offset`."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def index_rows(out: Path) -> dict[str, dict[str, Any]]:
    """Key -> row, of the clips in state ok."""
    rows = [row for path in sorted((out / "index").iterdir()) for row in pq.read_table(path).to_pylist()]
    return {row["key"]: row for row in rows if row["state"] == "ok"}


def shard_of(out: Path, key: str) -> str:
    for path in sorted((out / "index").iterdir()):
        if any(row["key"] == key and row["state"] == "ok" for row in pq.read_table(path).to_pylist()):
            return path.stem
    raise KeyError(key)
