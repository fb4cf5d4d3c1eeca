"""The datasets of `known_shards.py` with classes: dark and bright frames, by the clip's number."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from support.known_shards import Gaps, micro_model, write_known_shards

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import MonitorConfig, OptimizerConfig, ScheduleConfig
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.finetune.config import FinetuneConfig, HeadConfig, MixingConfig

CLASSES = ("dark", "bright", "never")
TEST_SHARDS = (1, 4)
NUM_TRAIN, NUM_TEST = 8, 4


def brightness(clip: int) -> list[str]:
    return ["dark" if clip < 6 else "bright"]


def write_labelled_shards(
    root: Path,
    labels: Callable[[int], Sequence[str]] = brightness,
    classes: Sequence[str] = CLASSES,
    audio_gaps_s: Gaps | None = None,
) -> Path:
    """12 clips, 8 in split "train" and 4 in "test", both with clips of both classes; "never" is no clip's."""
    write_known_shards(root, num_clips=12, clips_per_shard=2, audio_gaps_s=audio_gaps_s)
    for number in range(6):
        _label(root / "index" / f"train-{number:05d}.parquet", labels)
    for number in TEST_SHARDS:
        for folder, ending in (("shards", "tar"), ("index", "parquet"), ("done", "json")):
            path = root / folder / f"train-{number:05d}.{ending}"
            path.rename(path.with_name(f"test-{number:05d}.{ending}"))
    summary = json.loads((root / "dataset.json").read_text())
    kinds = {number: "test" if number in TEST_SHARDS else "train" for number in range(6)}
    summary |= {
        "splits": {"train": "train", "test": "test"},
        "shards": [f"{kind}-{number:05d}" for number, kind in kinds.items()],
        "labels": list(classes),
    }
    (root / "dataset.json").write_text(json.dumps(summary))
    return root


def pretrained(folder: Path) -> Path:
    """A checkpoint of an untrained micro model."""
    torch.manual_seed(0)
    return save_model(CavMaeSync(micro_model()), folder / "pretrained.safetensors")


def micro_finetuning(path: Path, weights: Path, *sets: str) -> FinetuneConfig:
    """Two epochs of two steps of four clips, with every random change, and without curves, which take longer to draw than
    the steps; `sets` are overrides."""
    config = FinetuneConfig(
        preset="micro",
        initial_weights=str(weights),
        head=HeadConfig(kind="attention"),
        data=DataConfig(path=str(path), alignment="time", image_augmentation=True, audio_noise=True),
        frames_per_clip=2,
        balanced=True,
        mixing=MixingConfig(
            max_masked_bands=8, max_masked_rows=8, mixup_probability=0.5, mixup_beta=10.0, label_smoothing=0.1
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01),
        head_lr_factor=10,
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.25, floor_ratio=0.1),
        batch_size=4,
        num_epochs=2,
        average_epochs=(1, 2),
        log_every_steps=1,
        monitor=MonitorConfig(curves=False),
    )
    return apply_overrides(config, sets)


def micro_probe(path: Path, weights: Path, *sets: str) -> FinetuneConfig:
    """The same of a frozen model, without random changes and with its features kept."""
    plain = (
        *("data.image_augmentation=false", "data.audio_noise=false", "mixing.mixup_probability=0"),
        *("mixing.max_masked_bands=0", "mixing.max_masked_rows=0", "frozen=true", "cache_features=true"),
    )
    return micro_finetuning(path, weights, *plain, *sets)


def _label(path: Path, labels: Callable[[int], Sequence[str]]) -> None:
    table = pq.read_table(path)
    clips = [int(clip_id.removeprefix("clip")) for clip_id in table["clip_id"].to_pylist()]
    index = table.schema.get_field_index("labels")
    column = pa.array([list(labels(clip)) for clip in clips], table.schema.field("labels").type)
    pq.write_table(table.set_column(index, table.schema.field("labels"), column), path)
