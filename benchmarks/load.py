"""How fast one process with one thread makes training pairs and whole clips, against upstream's data set.

    python -m benchmarks.load [--clips FOLDER] [--rounds N]

A pair is a frame and its window; a whole clip is all of its 16 pairs. Everything is in the page cache. Upstream reads a
JPEG and a WAV file, and computes the log-mel of the whole clip, for every item. A stream reads whole shards, and makes
one pair of each clip, or several.
"""

from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.support import clips as sample_clips
from benchmarks.support import results, timing, upstream
from benchmarks.support.program import cavsync
from benchmarks.support.repeated import write_repeated
from cavsync.model.config import sync_base
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pair_rule import SampleIndex
from cavsync.train.data.pairs import ClipAllPairs, ClipPairs
from cavsync.train.data.sampler import Position
from cavsync.train.data.stream.source import StreamedSource
from cavsync.train.engine.distributed import Ranks

NUM_PAIRS, BATCH_SIZE = 384, 96
OURS_PAIRS, UPSTREAM_PAIRS = "cavsync, pairs", "upstream, pairs"
OURS_CLIPS, UPSTREAM_CLIPS = "cavsync, whole clips", "upstream, whole clips"
STREAMED_CLIPS, PER_READ = 384, (1, 4, 8)
STREAMED = "cavsync, stream, {} a read"


def main(clips: Path | None = None, rounds: int = 7) -> None:
    timing.use_one_core()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        videos, ours, theirs = (Path(name, part) for part in ("videos", "ours", "theirs"))
        link_usable(clips or sample_clips.synthesised(), videos)
        cavsync("prepare", "folder", videos, "--out", ours, "--max-failure-rate", "1")
        data = DataConfig(path=str(ours))
        whole = ClipAllPairs(data, sync_base())
        files = prepared_files(ours)
        upstream.extract(files, theirs)
        actions = {
            OURS_PAIRS: partial(_our_pairs, ClipPairs(data, sync_base(), seed=0)),
            UPSTREAM_PAIRS: partial(_all_of, upstream.Pairs(theirs, NUM_PAIRS), batch_size=len(files)),
            OURS_CLIPS: partial(_all_of, whole, batch_size=None),
            UPSTREAM_CLIPS: partial(_all_of, upstream.WholeClips(theirs), batch_size=1),
        }
        many = write_repeated(Dataset.open(ours), Path(name, "many"), STREAMED_CLIPS)
        actions |= {STREAMED.format(count): partial(_streamed, many, count) for count in PER_READ}
        costs = timing.in_turns(actions, rounds)
    results.publish("load", "One process, one thread, warm", _rows(costs, len(files)))


def link_usable(clips: Path, folder: Path) -> None:
    """Links to the files that upstream reads, for both to have the same."""
    folder.mkdir()
    for video in sorted(clips.iterdir()):
        if upstream.reads(video):
            (folder / video.name).symlink_to(video.resolve())
        else:
            typer.echo(f"Left out: {video}: upstream's OpenCV reads no 16 frames of it.", err=True)


def prepared_files(dataset: Path) -> list[Path]:
    """The videos of its clips; what could not be prepared is no one's clip."""
    index = Dataset.open(dataset).index("train", ["source"])
    return [Path(source) for source in index["source"]]


def _our_pairs(pairs: ClipPairs) -> None:
    """In batches as training has them, of different frames of the clips."""
    draws = [
        SampleIndex(epoch, clip) for epoch in range(NUM_PAIRS // len(pairs)) for clip in range(len(pairs))
    ]
    for start in range(0, len(draws), BATCH_SIZE):
        pairs.batch(draws[start : start + BATCH_SIZE])


def _streamed(dataset: Path, pairs_per_read: int) -> None:
    """One pass over the shard, which gives `pairs_per_read` times as many pairs as it has clips."""
    data = DataConfig(path=str(dataset), source="stream", pairs_per_read=pairs_per_read)
    source = StreamedSource(data, sync_base(), BATCH_SIZE, seed=0)
    num_batches = source.epochs.num_batches * pairs_per_read
    with closing(source.batches(Position(0, 0, 0), Ranks(), torch.device("cpu"))) as batches:
        for _ in islice(batches, num_batches):
            pass


def _all_of(items: TorchDataset, batch_size: int | None) -> None:
    for _ in DataLoader(items, batch_size=batch_size):
        pass


def _rows(costs: dict[str, timing.Series], num_clips: int) -> list[results.Row]:
    num_pairs = NUM_PAIRS // num_clips * num_clips
    streamed = {STREAMED.format(count): count * STREAMED_CLIPS for count in PER_READ}
    counts = {UPSTREAM_PAIRS: num_pairs, OURS_PAIRS: num_pairs, **streamed}
    counts |= {UPSTREAM_CLIPS: num_clips, OURS_CLIPS: num_clips}
    rates = {name: [count / seconds for seconds in costs[name].cpu_s] for name, count in counts.items()}

    def row(name: str, unit: str, to: str, aim: str) -> results.Row:
        ratio = timing.ratio(rates[name], rates[to])
        return results.Row(what=name, values=rates[name], unit=unit, ratio=ratio, to="upstream", aim=aim)

    return [
        row(UPSTREAM_PAIRS, "pairs/s", UPSTREAM_PAIRS, ""),
        row(OURS_PAIRS, "pairs/s", UPSTREAM_PAIRS, ">= 2,000/s, upstream 164/s"),
        *(row(name, "pairs/s", UPSTREAM_PAIRS, ">= 1,500/s, upstream 164/s") for name in streamed),
        row(UPSTREAM_CLIPS, "clips/s", UPSTREAM_CLIPS, ""),
        row(OURS_CLIPS, "clips/s", UPSTREAM_CLIPS, ">= 100/s, upstream 9.7/s"),
    ]


if __name__ == "__main__":
    typer.run(main)
