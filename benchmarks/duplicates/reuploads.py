"""What `cavsync data duplicates` finds of copies of real videos, made with the ffmpeg program, and what it takes for copies.

    python -m benchmarks.duplicates reuploads VIDEOS [--folder DIR]

VIDEOS is a folder of videos of 8 s or more, all different. Each becomes copies of every kind of COPIES; two halves that do not
overlap, which are near misses of each other; and its frames with the audio of the next video. Every two clips are then a pair, or are
none, and the pairs that the command finds are compared with that. A folder that a run has filled is not filled again.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from subprocess import run

import imageio_ffmpeg
import pandas as pd

from benchmarks.support import results
from benchmarks.support.program import cavsync

FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-crf", "28")
LENGTH_S = 10.0
MIN_OVERLAP_S = 2.0
ORIGINAL, DUBBED = "orig", "dubbed"
# Name -> [start, stop) of the source in seconds, and the options of ffmpeg.
COPIES: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "recode": (0, 10, ("-vf", "scale=-2:120", "-crf", "33", "-c:a", "aac", "-b:a", "48k")),
    "shift0.3": (0.3, 10, ("-c:a", "aac", "-b:a", "96k")),
    "shift1.1": (1.1, 10, ("-c:a", "libopus", "-b:a", "64k")),
    "shift2.45": (2.45, 10, ("-crf", "30", "-c:a", "libopus", "-b:a", "48k")),
    "shift5": (5, 10, ("-c:a", "aac", "-b:a", "64k")),
    "head6": (0, 6, ("-c:a", "aac", "-b:a", "64k")),
    "mirror": (0, 10, ("-vf", "hflip", "-af", "volume=0.5", "-c:a", "aac", "-b:a", "64k")),
    "mirror+1.7": (1.7, 10, ("-vf", "hflip,scale=-2:180", "-c:a", "aac", "-b:a", "64k")),
    "quiet": (0, 10, ("-af", "volume=0.1", "-c:a", "aac", "-b:a", "64k")),
    "bright": (0, 10, ("-vf", "eq=brightness=0.06:contrast=1.15", "-c:a", "aac", "-b:a", "48k")),
    "letterbox": (0, 10, ("-vf", "pad=iw:iw*3/4:0:(oh-ih)/2,scale=-2:240", "-c:a", "aac", "-b:a", "64k")),
    "fps12": (0.6, 10, ("-vf", "fps=12", "-c:a", "libopus", "-b:a", "24k")),
    "half1": (0, 4.9, ("-c:a", "aac", "-b:a", "96k")),
    "half2": (5.1, 10, ("-c:a", "aac", "-b:a", "96k")),
}


def main(videos: Path, folder: Path = Path("build/reuploads")) -> None:
    sources = sorted(path for path in videos.iterdir() if path.is_file())
    made, data = folder / "videos", folder / "data"
    made.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources):
        make_copies(source, sources[(number + 1) % len(sources)], made)
    cavsync("prepare", "folder", made, "--out", data)
    cavsync("data", "duplicates", data, "--out", folder / "pairs", "--min-overlap", str(MIN_OVERLAP_S))
    index = pd.concat(pd.read_parquet(path) for path in (data / "index").iterdir())
    ids = sorted(index[index["state"] == "ok"]["clip_id"])
    found = {
        frozenset((row.key.rpartition("_")[0], row.other.rpartition("_")[0])): row.matched
        for row in pd.read_parquet(folder / "pairs" / "pairs.parquet").itertuples()
    }
    rows = list(compared(ids, found))
    results.publish(
        "duplicates-reuploads", f"{len(sources)} videos, {len(ids)} clips, {len(found)} pairs", rows
    )


def make_copies(source: Path, next_source: Path, out: Path) -> None:
    for name, (start_s, stop_s, options) in {ORIGINAL: (0, LENGTH_S, ("-c:a", "aac")), **COPIES}.items():
        audio = () if "libopus" in options else ("-ar", "44100")
        span = ("-ss", str(start_s), "-t", str(stop_s - start_s), "-i", source)
        ffmpeg(*span, "-map", "0:v:0", "-map", "0:a:0", *FAST, *options, *audio, to=_path(source, name, out))
    dubbed = ("-t", "10", "-i", source, "-i", next_source, "-map", "0:v:0", "-map", "1:a:0", "-shortest")
    ffmpeg(*dubbed, *FAST, "-c:a", "aac", to=_path(source, DUBBED, out))


def ffmpeg(*options: str | Path, to: Path) -> None:
    if not to.exists():
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y"]
        run([*command, *map(str, options), str(to)], check=True)


def _path(source: Path, name: str, out: Path) -> Path:
    return out / f"{source.stem.replace('.', 'p')}__{name.replace('.', 'p').replace('+', 'P')}.mkv"


def compared(ids: list[str], found: dict[frozenset[str], str]) -> Iterator[results.Row]:
    """Recall of each kind of copy against its original, of all pairs of copies, and precision."""
    spans = {name.replace(".", "p").replace("+", "P"): copy[:2] for name, copy in COPIES.items()}
    spans |= {ORIGINAL: (0.0, LENGTH_S)}
    hits: dict[str, list[float]] = defaultdict(list)
    wrong = 0
    for one, other in combinations(ids, 2):
        (video, kind), (other_video, other_kind) = (name.split("__") for name in (one, other))
        matched = found.get(frozenset((one, other)))
        if DUBBED in (kind, other_kind):
            # Its frames are one video's, its audio is another's; either may match, and never both.
            wrong += matched == "both"
            if video == other_video and ORIGINAL in (kind, other_kind):
                hits["dubbed, by its frames"].append(matched == "frames")
            continue
        overlap_s = min(spans[kind][1], spans[other_kind][1]) - max(spans[kind][0], spans[other_kind][0])
        if video != other_video or overlap_s < 0:
            wrong += matched is not None
            near = "halves of one video" if video == other_video else "different videos"
            hits[f"near miss found: {near}"].append(matched is not None)
        elif overlap_s >= MIN_OVERLAP_S:
            hits["all pairs of copies, in both"].append(matched == "both")
            hits["all pairs of copies, in any way"].append(matched is not None)
            if ORIGINAL in (kind, other_kind):
                hits[f"original and {kind if other_kind == ORIGINAL else other_kind}, in any way"].append(
                    matched is not None
                )
    for name, values in sorted(hits.items()):
        yield results.Row(
            what=f"{name} ({len(values):,})", values=[100 * sum(values) / len(values)], unit="%"
        )
    yield results.Row(what="pairs that are none", values=[float(wrong)], unit="pairs")
