"""What the heatmap of a frame costs in `cavsync localize`, at the paper's size with random weights, and what painting it costs.

    python -m benchmarks.localize [--rounds N]

The baseline is `cavsync localize` as it first was: every token of each view encoded to the end, the frame's audio twice, and
the views of `cavsync eval segmentation`, which the second row has too.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.support import results, timing
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import sync_base
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.config import Precision
from cavsync.train.engine.device import autocast, has_fast_bfloat16
from cavsync.train.evaluation.heatmaps.heatmap import QUICK, HeatmapModel, MapConfig, draw_views
from cavsync.train.inference.localize.overlay import OPACITY, SIDE_PX, mixed

CPU = torch.device("cpu")
BEFORE, FULL = "every token to the end, 24 repeats of 1/16", "cavsync, 24 repeats of 1/16"
NOW, HALF, IN_BFLOAT16 = (
    "cavsync localize",
    "cavsync localize, half of the repeats",
    "cavsync localize, bfloat16",
)
BY_MATPLOTLIB, BY_TABLE = "an overlay's frame, coloured by matplotlib", "an overlay's frame, cavsync"
FRAMES = 20  # of the overlay


def main(rounds: int = 3) -> None:
    timing.use_one_core()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CavMaeSync(sync_base()).eval()
    config = model.config
    image = torch.randint(256, (config.image_size, config.image_size, 3), dtype=torch.uint8)
    audio = torch.randn(1, config.audio_rows, config.num_mels)
    heatmap, half = partial(_heatmap, model, image, audio), replace(QUICK, repeats=QUICK.repeats // 2)
    actions: dict[str, timing.Action] = {
        BEFORE: partial(_to_the_end, HeatmapModel(model, MapConfig(), CPU), image, audio),
        FULL: partial(heatmap, MapConfig(), "float32"),
        NOW: partial(heatmap, QUICK, "float32"),
        HALF: partial(heatmap, half, "float32"),
    }
    views = [len(draw_views(config.num_image_patches, one)) for one in (MapConfig(), QUICK, half)]
    notes = [f"Views of a frame: {views[0]}; of localize {views[1]}, with half of the repeats {views[2]}."]
    if has_fast_bfloat16(CPU):
        actions[IN_BFLOAT16] = partial(heatmap, QUICK, "bfloat16")
    else:
        notes.append("bfloat16 was not measured: this processor has no instructions for it.")
    costs = timing.in_turns(actions, rounds)
    frame = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    heatmap = np.random.default_rng(1).random((SIDE_PX, SIDE_PX, 1), np.float32)
    painting: dict[str, Callable[[], object]] = {
        BY_MATPLOTLIB: lambda: [_by_matplotlib(frame, heatmap) for _ in range(FRAMES)],
        BY_TABLE: lambda: [mixed(frame, heatmap) for _ in range(FRAMES)],
    }
    painted = timing.in_turns(painting, rounds)
    rows = [*_rows(costs, BEFORE), *_rows(painted, BY_MATPLOTLIB, FRAMES)]
    results.publish("localize", "A frame of cavsync localize, CPU time", rows, notes)


def _rows(costs: dict[str, timing.Series], base: str, count: int = 1) -> list[results.Row]:
    return [
        results.Row(
            what=name,
            values=[seconds / count for seconds in series.cpu_s],
            unit="s",
            ratio=timing.ratio(costs[base].cpu_s, series.cpu_s),
            to="as fast",
        )
        for name, series in costs.items()
    ]


@torch.inference_mode()
def _to_the_end(maps: HeatmapModel, image: Tensor, audio: Tensor) -> None:
    normalised = normalise_images(image[None])
    maps.model.encode_image(normalised)
    maps.model.encode_audio(audio)
    maps.model.encode_audio(audio)
    torch.cat([maps.model.encode_image(normalised, kept).global_token for kept in maps.views.split(192)])


@torch.inference_mode()
def _heatmap(
    model: CavMaeSync, image: Tensor, audio: Tensor, config: MapConfig, precision: Precision
) -> None:
    """The similarity of frame and audio, and the views."""
    with autocast(CPU, precision):
        model.image_embedding(normalise_images(image[None]))
        model.audio_embedding(audio)
    HeatmapModel(model, config, CPU, precision).encode_image(image, "masked-view")


def _by_matplotlib(frame: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """(side, side, 3) uint8, of a frame and a (side, side, 1) heatmap in [0, 1]."""
    colours = mpl.colormaps["inferno"](heatmap[..., 0])[..., :3]
    painted: np.ndarray = frame * (1 - OPACITY * heatmap) + 255 * colours * OPACITY * heatmap
    return painted.astype(np.uint8)


if __name__ == "__main__":
    typer.run(main)
