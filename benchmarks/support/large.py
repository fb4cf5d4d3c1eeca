"""Datasets that are large in number only: a list like AudioSet's, and prepared shards that are links to one."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_letters, digits

import numpy as np
from PIL import Image

from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow
from cavsync.pipeline.dataset.paths import DatasetPaths, split_of
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, SCHEMA_VERSION, ClipState, clip_key
from cavsync.pipeline.dataset.writer import ShardWriter

SHARD_SIZE = 512
NUM_FRAMES, SIDE, DURATION_S = 16, 224, 1
LIST, CLASSES, NUM_CLASSES = "unbalanced_train_segments.csv", "class_labels_indices.csv", 527
BATCH_IDS = 2**16
LETTERS = ascii_letters + digits + "-_"


def write_lists(folder: Path, num_rows: int) -> None:
    """A list of AudioSet's form and its classes, under the names that `cavsync prepare audioset` looks for."""
    folder.mkdir(parents=True)
    labels = [f"/m/{number:05x}" for number in range(NUM_CLASSES)]
    with (folder / CLASSES).open("w", newline="") as file:
        rows = [(number, label, f"Sound {number}") for number, label in enumerate(labels)]
        csv.writer(file).writerows([("index", "mid", "display_name"), *rows])
    with (folder / LIST).open("w") as file:
        file.write("# Segments csv\n# \n# YTID, start_seconds, end_seconds, positive_labels\n")
        for number, clip_id in enumerate(ids(num_rows)):
            first, second = labels[number % NUM_CLASSES], labels[(number // 7 + 1) % NUM_CLASSES]
            file.write(f'{clip_id}, 30.000, 40.000, "{first},{second}"\n')


def ids(count: int) -> Iterator[str]:
    """Distinct ids of YouTube's form, the same ones every time, in no order."""
    random = np.random.default_rng(0)
    for first in range(0, count, BATCH_IDS):
        heads = random.integers(len(LETTERS), size=(min(BATCH_IDS, count - first), 6))
        for number, head in enumerate(heads.tolist(), first):
            tail = [number >> shift & 63 for shift in (0, 6, 12, 18, 24)]
            yield "".join(LETTERS[letter] for letter in head + tail)


def write_prepared(root: Path, names: Sequence[str]) -> None:
    """A dataset of full shards of these names; all are links to the first, so their keys repeat."""
    paths = DatasetPaths(root)
    with ShardWriter(paths, names[0]) as writer:
        for clip_id in ids(SHARD_SIZE):
            writer.add(_index_row(clip_id), [_jpeg()] * NUM_FRAMES, np.zeros((_num_rows(), NUM_MELS)))
        writer.finish()
    for name in names[1:]:
        for file in (paths.tar, paths.index, paths.done):
            file(name).hardlink_to(file(names[0]))
    summary = {
        "schema_version": SCHEMA_VERSION,
        "splits": {split_of(names[0]): "train"},
        "shards": list(names),
    }
    summary |= {"states": {ClipState.OK: len(names) * SHARD_SIZE}, "mel_mean": -5.0, "mel_std": 4.0}
    paths.summary.write_text(json.dumps(summary | {"config": {}, "labels": []}))


def _index_row(clip_id: str) -> IndexRow:
    starts = [0] * NUM_FRAMES
    return IndexRow(
        key=clip_key(clip_id, 0.0),
        clip_id=clip_id,
        split="train",
        source=f"/videos/{clip_id}.mp4",
        source_start_s=0.0,
        start_s=0.0,
        end_s=float(DURATION_S),
        state=ClipState.OK,
        clip=ClipFacts(
            duration_s=float(DURATION_S),
            frame_pts_s=np.linspace(0, DURATION_S, NUM_FRAMES, endpoint=False).tolist(),
            num_mel_rows=_num_rows(),
            window_start=starts,
            window_stop=starts,
            silent=False,
            still=False,
            orientation=1,
            audio_channel=0,
            audio_gaps_s=(),
            frame_gaps_s=(),
        ),
    )


def _num_rows() -> int:
    return DURATION_S * MEL_ROWS_PER_S


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(buffer, "JPEG")
    return buffer.getvalue()
