"""Which masked views find what sounds: the visible fraction, number of deals, ridge and length scale, tried on a small world.

    python -m benchmarks.masked_view RUN [RUN ...] [--difficulty NAME] [--world-seed N] [--clips N]

A world of test clips only is made from a seed that no other measurement uses, and its audio-prompted segmentation set scored with each
run by every setting. Give runs of seeds whose scores are reported nowhere, so that a choice by this table favours no reported score.
Each view is encoded once: fewer deals are the first ones of many, and ridge and length scale change the regression only.
"""

import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score
from torch import Tensor

from benchmarks.support import results
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.difficulty import Difficulty
from cavsync.pipeline.synthetic.segmentation_set import write_prompted
from cavsync.pipeline.synthetic.world import make_world
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import (
    HeatmapModel,
    MapConfig,
    MaskedViewFeatures,
    ridge_solver,
    upsampled,
)
from cavsync.train.evaluation.segmentation.dataset import PromptedRow, PromptedSet

FRACTIONS = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
RIDGES = (0.5, 1.0, 2.0, 4.0, 8.0)
LENGTH_SCALES = (0.0, 0.7, 1.0, 1.5)
REPEATS = (2, 4, 6, 8, 12, 24)
# Visible fraction, ridge, length scale, repeats.
Setting = tuple[float, float, float, int]


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of models.")],
    difficulty: Difficulty = "easy",
    world_seed: int = 1_000,
    clips: int = 24,
    rows_per_class: int = 6,
) -> None:
    torch.set_num_threads(1)
    began_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        config = WorldConfig.of_difficulty(difficulty, seed=world_seed, num_train=0, num_test=clips)
        make_world(config, world)
        write_prompted(world, world / "prompted", rows_per_class=rows_per_class)
        prompted = PromptedSet.open(world / "prompted")
        found = {run.name: scores(run, prompted) for run in runs}
    note = (
        f"{difficulty} world, seed {world_seed}, {clips} clips, {len(prompted.rows)} rows; mAP in %; "
        f"{time.process_time() - began_s:.0f} s of CPU time"
    )
    publish(found, note)


def scores(run: Path, prompted: PromptedSet) -> dict[Setting, float]:
    """The mAP in % of every setting."""
    checkpoint = LoadedCheckpoint.load(run, "cpu")
    maps: dict[Setting, list[np.ndarray]] = defaultdict(list)
    truths: list[np.ndarray] = []
    for cells, truth in mapped(checkpoint, prompted):
        for setting, one in cells.items():
            maps[setting].append(upsampled(one, len(truth)))
        truths.append(truth)
    names = [row.class_name for row in prompted.rows]
    return {setting: mean_average_precision(names, ones, truths) for setting, ones in maps.items()}


def mapped(
    checkpoint: LoadedCheckpoint, prompted: PromptedSet
) -> Iterator[tuple[dict[Setting, Tensor], np.ndarray]]:
    """Of each row the map of every setting, (rows, columns) patches, and the (side, side) pixels of its class."""
    models = {
        fraction: HeatmapModel(
            checkpoint.model, MapConfig(visible_fraction=fraction, repeats=max(REPEATS)), checkpoint.device
        )
        for fraction in FRACTIONS
    }
    solvers = {
        (fraction, ridge, length_scale, repeats): ridge_solver(
            first_deals(one.views, repeats), one.model.config.image_grid, ridge, length_scale
        )
        for fraction, one in models.items()
        for ridge, length_scale, repeats in itertools.product(RIDGES, LENGTH_SCALES, REPEATS)
    }
    any_model, reader = models[FRACTIONS[0]], PromptReader.of(checkpoint, "mean")
    embeddings: dict[float, Tensor] = {}
    shown: str | None = None
    with DecoderProcess() as decoder:
        for row in prompted.rows:  # sorted by image
            image, ids = prompted.view(row, any_model.model.config.image_size)
            if row.image != shown:
                embeddings = {fraction: view_embeddings(one, image) for fraction, one in models.items()}
                shown = row.image
            audio = any_model.encode_audio(reader.read(prompted.audio(row), decoder))
            grid = any_model.model.config.image_grid
            features = {
                setting: MaskedViewFeatures(first_deals(embeddings[setting[0]], setting[-1]), solver, grid)
                for setting, solver in solvers.items()
            }
            yield {name: one.heatmap(audio).cells for name, one in features.items()}, truth_of(row, ids)


def view_embeddings(model: HeatmapModel, image: Tensor) -> Tensor:
    """(V, D) unit vectors."""
    features = model.encode_image(image, "masked-view")
    assert isinstance(features, MaskedViewFeatures)
    return features.embeddings


def first_deals(views: Tensor, repeats: int) -> Tensor:
    """Of (V, ...) views of all deals, those of the first `repeats`."""
    return views[: len(views) * repeats // max(REPEATS)]


def truth_of(row: PromptedRow, ids: np.ndarray) -> np.ndarray:
    """(side, side) bool."""
    truth: np.ndarray = ids == row.class_id
    return truth


def mean_average_precision(names: list[str], maps: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """In %, over classes; the pixels of a class are pooled, as in `cavsync eval segmentation`."""
    precisions = []
    for name in sorted(set(names)):
        rows = [number for number, other in enumerate(names) if other == name]
        scores, truth = (np.stack([part[row].ravel() for row in rows]) for part in (maps, truths))
        precisions.append(average_precision_score(truth, scores))
    return 100 * float(np.mean(precisions))


def publish(found: dict[str, dict[Setting, float]], note: str) -> None:
    """Prints a table a run-mean, with a row for each visible fraction, number of deals and length scale, and writes all."""
    settings = list(next(iter(found.values())))
    means = {setting: float(np.mean([one[setting] for one in found.values()])) for setting in settings}
    table = Table(title=f"masked-view, mean mAP of {', '.join(found)}", title_justify="left")
    for heading in ("visible", "deals", "length scale", *(f"ridge {ridge:g}" for ridge in RIDGES)):
        table.add_column(heading, justify="right")
    for fraction, repeats, length_scale in itertools.product(FRACTIONS, REPEATS, LENGTH_SCALES):
        values = [f"{means[fraction, ridge, length_scale, repeats]:.1f}" for ridge in RIDGES]
        table.add_row(f"1/{1 / fraction:g}", str(repeats), f"{length_scale:g}", *values)
    best = {
        name: max(one, key=lambda setting: one[setting]) for name, one in {**found, "mean": means}.items()
    }
    lines = [f"best of {name}: {describe(one)}" for name, one in best.items()]
    now = MapConfig()
    default = (now.visible_fraction, now.ridge, now.length_scale, now.repeats)
    lines.append(
        f"default {describe(default)}: {means[default]:.1f}, of the mean the best is {max(means.values()):.1f}"
    )
    Console(width=results.WIDTH).print(table, *lines, note, sep="\n", highlight=False)
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    rows = {name: {describe(setting): value for setting, value in one.items()} for name, one in found.items()}
    (results.FOLDER / "masked_view.json").write_text(json.dumps({"runs": rows, "note": note}, indent=1))


def describe(setting: Setting) -> str:
    fraction, ridge, length_scale, repeats = setting
    return f"1/{1 / fraction:g} visible, ridge {ridge:g}, length scale {length_scale:g}, {repeats} deals"


if __name__ == "__main__":
    typer.run(main)
