"""Proves that a study's world becomes a dataset, is left as it is when it is there, and says what a model keeps of its objects."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from support.known_shards import write_known_shards

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.output import Guidance
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import IMAGE_MEAN, IMAGE_STD
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.heatmaps.kept_object import MaskedClips
from cavsync.train.pretrain.presets import tiny
from cavsync.train.study.world import make_study_world

CONFIG = WorldConfig(num_train=2, num_test=1, side_px=64)
SIDE, GRID = 64, (4, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """The dataset of a small world, and how many of its clips were done at each call."""
    counts: list[tuple[int, int]] = []
    return make(tmp_path_factory.mktemp("study"), counts), counts


def make(root: Path, counts: list[tuple[int, int]]) -> Path:
    return make_study_world(CONFIG, root, Workers(), lambda *one: counts.append(one), lambda line: None)


def test_the_world_of_a_study_is_prepared_once(made: tuple[Path, list[tuple[int, int]]]) -> None:
    path, counts = made
    dataset = Dataset.open(path)
    assert (len(dataset.index("train")), len(dataset.index("test"))) == (2, 1)
    assert counts[:3] == [(1, 3), (2, 3), (3, 3)]
    before = {file: file.stat().st_mtime_ns for file in path.parent.rglob("*.tar")}
    make(path.parent, [])
    assert before == {file: file.stat().st_mtime_ns for file in path.parent.rglob("*.tar")} != {}


def clips_of(path: Path, split: str = "test") -> ClipAllPairs:
    model = replace(tiny().model, image_size=SIDE)
    return ClipAllPairs(replace(DataConfig(path=str(path)), split=split), model)


class Colourful:
    """Attends to what is colourful, which in this world is what sounds: backgrounds and mute things are pale."""

    def __init__(self, sign: float) -> None:
        self.sign, self.config = sign, SimpleNamespace(image_grid=GRID)

    def guide_image(self, images: torch.Tensor, direction: str) -> Guidance:
        assert direction == "global-to-patch"
        colours = images * torch.tensor(IMAGE_STD)[:, None, None] + torch.tensor(IMAGE_MEAN)[:, None, None]
        saturation = colours.amax(dim=1) - colours.amin(dim=1)
        cells = torch.nn.functional.adaptive_avg_pool2d(saturation[:, None], GRID).flatten(1)
        return Guidance(cells, self.sign * cells)


def test_a_model_that_attends_to_what_sounds_keeps_it(made: tuple[Path, list[tuple[int, int]]]) -> None:
    masked = MaskedClips.of(clips_of(made[0]))

    def kept(sign: float) -> float:
        model = cast(CavMaeSync, cast(Any, Colourful(sign)))
        return masked.kept_fraction(model, [0], torch.device("cpu"))

    attending = kept(1.0)
    assert attending > 0.75  # at random .5
    # The other half of the patches keeps the rest.
    assert kept(-1.0) == pytest.approx(1 - attending)


def test_a_dataset_without_masks_is_refused_by_name(tmp_path: Path) -> None:
    shards = write_known_shards(tmp_path, num_clips=1)
    with pytest.raises(
        EvaluationError, match=r"kept-object needs masks of the clips.*is not there \(1 of 1\)"
    ):
        MaskedClips.of(clips_of(shards, "train"))


def test_masks_are_those_of_the_frames_on_screen(made: tuple[Path, list[tuple[int, int]]]) -> None:
    masked = MaskedClips.of(clips_of(made[0]))
    assert np.all([file.is_file() for file in masked.files])
