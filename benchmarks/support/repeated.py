"""A dataset of many clips from one of few: the same frames and log-mels under other keys, in one shard."""

import json
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, read_clip
from cavsync.pipeline.dataset.writer import ShardWriter

SHARD = "train-00000"


def write_repeated(few: Dataset, root: Path, num_clips: int) -> Path:
    """`num_clips` clips in split "train" at `root`, which it returns."""
    paths, rows = DatasetPaths(root), index_rows(few.index_table("train"))
    with ShardWriter(paths, SHARD) as writer:
        for number, row in enumerate(islice(cycle(rows), num_clips)):
            content = read_clip(few.paths, row)
            writer.add(replace(row, key=f"{number:06d}_00000000"), content.frames, content.mel, content.audio)
        writer.finish()
    summary = few.summary | {"shards": [SHARD], "states": {"ok": num_clips}}
    paths.summary.write_text(json.dumps(summary))
    return root
