"""A dataset of known size, written without decoding anything: images and log-mels of noise, in shards as prepared ones are."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, SCHEMA_VERSION, ClipState, clip_key
from cavsync.pipeline.dataset.writer import ShardWriter

NUM_FRAMES, CLIP_S, CLIPS_PER_SHARD = 16, 10.0, 256
# So many different images, about as large as JPEGs of video frames; each clip has sixteen of them.
NUM_IMAGES = 64


def write_shards(root: Path, num_clips: int, side: int) -> Path:
    """A dataset at `root` with `num_clips` clips in split "train"."""
    random = np.random.default_rng(0)
    images = [_jpeg(random, side) for _ in range(NUM_IMAGES)]
    rows = round(CLIP_S * MEL_ROWS_PER_S) - 2
    mel = random.normal(-5, 4, (rows, NUM_MELS)).astype(np.float16)
    paths, firsts = DatasetPaths(root), range(0, num_clips, CLIPS_PER_SHARD)
    shards = [f"train-{number:05d}" for number in range(len(firsts))]
    for shard, first in zip(shards, firsts, strict=True):
        with ShardWriter(paths, shard) as writer:
            for clip in range(first, min(first + CLIPS_PER_SHARD, num_clips)):
                chosen = random.integers(NUM_IMAGES, size=NUM_FRAMES)
                writer.add(_row(clip, rows), [images[one] for one in chosen], np.roll(mel, clip, axis=0))
            writer.finish()
    summary = {
        "schema_version": SCHEMA_VERSION,
        "splits": {"train": "train"},
        "shards": shards,
        "states": {"ok": num_clips},
        "mel_mean": -5.0,
        "mel_std": 4.0,
        "config": {},
        "labels": [],
    }
    paths.summary.write_text(json.dumps(summary))
    return root


def _row(clip: int, rows: int) -> IndexRow:
    clip_id = f"clip{clip:06d}"
    return IndexRow(
        key=clip_key(clip_id, 0.0),
        clip_id=clip_id,
        split="train",
        source=None,
        source_start_s=0.0,
        start_s=0.0,
        end_s=CLIP_S,
        state=ClipState.OK,
        clip=ClipFacts(
            duration_s=CLIP_S,
            frame_pts_s=frame_times_s(CLIP_S, NUM_FRAMES).tolist(),
            num_mel_rows=rows,
            window_start=(),
            window_stop=(),
            silent=False,
            still=False,
            orientation=1,
            audio_channel=0,
            audio_gaps_s=(),
            frame_gaps_s=(),
        ),
    )


def _jpeg(random: np.random.Generator, side: int) -> bytes:
    """Smooth noise with some grain: about 12 kB at 224 pixels."""
    coarse = random.integers(256, size=(side // 16 + 1, side // 16 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    grain = random.normal(0, 5, (side, side, 1))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
