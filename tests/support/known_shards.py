"""Small datasets whose frames and log-mels encode the numbers of clip, frame and row."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, SCHEMA_VERSION, ClipState, clip_key
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import OptimizerConfig, ScheduleConfig
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig

NUM_FRAMES = 16
CLIP_ROWS = 998  # 10 s
# Clip -> its [start, stop) in seconds.
Gaps = Mapping[int, Sequence[tuple[float, float]]]
COLOUR_STEP = 12  # far more than a JPEG of one colour is off


def write_known_shards(
    root: Path,
    *,
    num_clips: int = 12,
    side: int = 32,
    rows: int = CLIP_ROWS,
    clips_per_shard: int = 5,
    audio_gaps_s: Gaps | None = None,
    frame_gaps_s: Gaps | None = None,
) -> Path:
    """A dataset of `num_clips` clips in split "train"; one more of each shard was listed but is missing."""
    paths = DatasetPaths(root)
    firsts = range(0, num_clips, clips_per_shard)
    shards = [f"train-{number:05d}" for number in range(len(firsts))]
    for shard, first in zip(shards, firsts, strict=True):
        with ShardWriter(paths, shard) as writer:
            for clip in range(first, min(first + clips_per_shard, num_clips)):
                row = prepared_row(f"clip{clip:03d}", duration_s=rows / 100)
                assert row.clip is not None
                gaps = {
                    "audio_gaps_s": (audio_gaps_s or {}).get(clip, ()),
                    "frame_gaps_s": (frame_gaps_s or {}).get(clip, ()),
                }
                writer.add(
                    replace(row, clip=replace(row.clip, **gaps)),
                    [frame_jpeg(clip, frame, side) for frame in range(NUM_FRAMES)],
                    mel(clip, rows),
                )
            writer.add_failed(
                replace(
                    prepared_row(f"clip{900 + first:03d}", duration_s=rows / 100),
                    state=ClipState.MISSING,
                    reason="not found",
                    clip=None,
                )
            )
            writer.finish()
    summary = {
        "schema_version": SCHEMA_VERSION,
        "name": "known",
        "num_listed": num_clips + len(shards),
        "lists": {},
        "label_names": [],
        "splits": {"train": "train"},
        "shards": shards,
        "states": {"ok": num_clips, "missing": len(shards)},
        "mel_mean": -5.0,
        "mel_std": 4.0,
        "config": {},
        "labels": [],
    }
    paths.summary.write_text(json.dumps(summary))
    return root


def prepared_row(
    clip_id: str = "clip", *, duration_s: float = 10.0, num_frames: int = 16, source: str | None = None
) -> IndexRow:
    """A clip of split "train" in state ok, with its frames at equal distances and no windows."""
    return IndexRow(
        key=clip_key(clip_id, 0.0),
        clip_id=clip_id,
        split="train",
        source=source,
        source_start_s=0.0,
        start_s=0.0,
        end_s=duration_s,
        state=ClipState.OK,
        clip=ClipFacts(
            duration_s=duration_s,
            frame_pts_s=frame_times_s(duration_s, num_frames).tolist(),
            num_mel_rows=round(duration_s * MEL_ROWS_PER_S),
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


def frame_jpeg(clip: int, frame: int, side: int) -> bytes:
    """A JPEG of one colour: red is the clip, green the frame."""
    buffer = io.BytesIO()
    colour = (COLOUR_STEP * clip, COLOUR_STEP * frame, 128)
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def mel(clip: int, rows: int = CLIP_ROWS) -> np.ndarray:
    """Log-mel (rows, 128): bin 0 is the clip, bin 1 the row, both exact in float16; the rest is noise."""
    content = np.random.default_rng(clip).normal(-5, 4, (rows, NUM_MELS))
    content[:, 0], content[:, 1] = clip, np.arange(rows)
    return content


def read_image(image: torch.Tensor) -> tuple[int, int]:
    """(clip, frame) of a uint8 (height, width, 3) image."""
    red, green, _ = image.float().mean(dim=(0, 1)).tolist()
    return round(red / COLOUR_STEP), round(green / COLOUR_STEP)


def read_audio(audio: torch.Tensor) -> tuple[int, int]:
    """(clip, first row) of a (rows, 128) audio segment that was not normalised."""
    return int(audio[0, 0]), int(audio[0, 1])


def micro_model(**changes: object) -> ModelConfig:
    """The whole graph at a size where a step takes milliseconds."""
    sizes = {"audio_rows": 32, "image_size": 32, "embed_dim": 16, "num_heads": 2, "encoder_depth": 1}
    decoder = {"decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2, "num_registers": 1}
    return ModelConfig(**(sizes | decoder | {"contrastive_weight": 1.0} | changes))


def raw_data(path: Path, **changes: object) -> DataConfig:
    """Reads what `write_known_shards` wrote, without normalisation."""
    return DataConfig(**({"path": str(path), "mel_mean": 0.0, "mel_std": 1.0} | changes))


def micro_run(path: Path, **changes: object) -> PretrainConfig:
    """Four steps of two clips, without a monitor; three batches make an epoch of six."""
    plain = {
        "preset": "micro",
        "model": micro_model(),
        "data": DataConfig(path=str(path), image_augmentation=True, audio_noise=True),
        "optimizer": OptimizerConfig(
            name="adamw", lr=1e-2, betas=(0.9, 0.98), weight_decay=0.01, decay="matrices"
        ),
        "schedule": ScheduleConfig(name="cosine", warmup_fraction=0.25, floor_ratio=0.1),
        "batch_size": 2,
        "num_steps": 4,
        "log_every_steps": 1,
        "monitor": PretrainMonitorConfig(tracker=None, every_steps=None, curves=False),
    }
    return PretrainConfig(**(plain | changes))
