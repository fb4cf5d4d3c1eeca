"""Proves the values of a heatmap: products with the averaged audio embedding, or each patch's part in masked views."""

import math
import re
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score
from support.documents.pages import ROOT
from support.known_shards import micro_model
from torch import Tensor
from torch.nn.functional import normalize

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.output import Encoding
from cavsync.pipeline.dataset.schema import MediaError
from cavsync.train.data.images import normalise_images
from cavsync.train.data.window import WindowRule
from cavsync.train.embedding.encode import require_finite
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments, PromptReader, window_starts
from cavsync.train.evaluation.heatmaps.heatmap import (
    QUICK,
    AudioFeatures,
    HeatmapModel,
    MapConfig,
    audio_probe,
    draw_views,
    ridge_solver,
)

CPU = torch.device("cpu")
RULE = WindowRule(rows=32, mean=-5.0, std=4.0, pad_value=-5.0)


def image(side: int = 32) -> Tensor:
    return torch.randint(0, 256, (side, side, 3), generator=torch.manual_seed(0), dtype=torch.uint8)


# denseav


def brute_force(
    cells: Tensor, patch: Tensor, valid: Tensor, compare: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Mean over frequency, then over the valid time steps, then over windows, product by product."""
    windows = []
    for window, columns in zip(cells, valid, strict=True):
        over_frequency = torch.stack([compare(row, patch) for row in window]).mean(dim=0)
        windows.append(over_frequency[columns].mean())
    return float(torch.stack(windows).mean())


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_value_is_the_mean_of_the_products_with_every_valid_audio_patch(similarity: str) -> None:
    random = torch.manual_seed(1)
    cells, patch = torch.randn(3, 2, 5, 8, generator=random), torch.randn(8, generator=random)
    valid = torch.tensor([[True] * 5, [True] * 5, [True, True, False, False, False]])

    def compare(row: Tensor, image_patch: Tensor) -> Tensor:
        if similarity == "dot":
            return row @ image_patch
        return torch.cosine_similarity(row, image_patch.expand_as(row), dim=-1)

    config = MapConfig(audio_features="tokens", similarity=similarity)  # type: ignore[arg-type]
    probe = audio_probe(Encoding(torch.randn(3, 8), cells), valid, config)
    seen = normalize(patch, dim=0) if similarity == "cosine" else patch
    assert float(seen @ probe) == pytest.approx(brute_force(cells, patch, valid, compare), abs=1e-5)


def test_with_plain_products_each_patch_and_their_mean_give_the_same() -> None:
    encoding = Encoding(torch.randn(2, 8), torch.randn(2, 2, 5, 8))
    valid = torch.ones(2, 5, dtype=torch.bool)
    tokens, mean = (
        audio_probe(encoding, valid, MapConfig(audio_features=feature)) for feature in ("tokens", "mean")
    )
    torch.testing.assert_close(tokens, mean)


def test_the_map_follows_the_rows_and_columns_of_the_image() -> None:
    model = CavMaeSync(micro_model()).eval()
    heatmap_model = HeatmapModel(model, MapConfig(audio_features="global"), CPU)
    windows = AudioSegments(torch.randn(2, 32, 128), torch.ones(2, 2, dtype=torch.bool))
    cells = heatmap_model.encode_image(image(), "denseav").heatmap(heatmap_model.encode_audio(windows)).cells
    with torch.inference_mode():
        patches = model.encode_image(normalise_images(image()[None])).patches[0]
        audio = model.encode_audio(windows.mel).global_token.mean(dim=0)
    torch.testing.assert_close(cells, patches @ audio)


# masked-view


def test_every_deal_shows_each_patch_once_and_the_seed_decides_all() -> None:
    views = draw_views(64, MapConfig(seed=3))
    assert views.shape == (24 * 16, 4)
    for deal in views.reshape(24, -1):
        assert sorted(deal.tolist()) == list(range(64))
    assert torch.equal(views, draw_views(64, MapConfig(seed=3)))
    assert not torch.equal(views, draw_views(64, MapConfig(seed=4)))


def test_other_grids_show_the_same_fraction_of_patches() -> None:
    views = draw_views(196, MapConfig())
    assert views.shape == (24 * 16, 12)  # four patches sit out in each deal
    assert all(len(set(deal.tolist())) == 192 for deal in views.reshape(24, -1))


def test_the_regression_finds_the_part_of_each_patch() -> None:
    views = draw_views(64, MapConfig(repeats=100))
    parts = torch.randn(64, generator=torch.manual_seed(2))
    similarities = parts[views].sum(dim=1)
    found = ridge_solver(views, (8, 8), ridge=1e-6, length_scale=0.0) @ (similarities - similarities.mean())
    torch.testing.assert_close(found, parts - parts.mean(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("length_scale", [0.0, 0.7, 3.0])
def test_the_regression_is_that_of_scikit_learn_on_patches_that_are_alike_beforehand(
    length_scale: float,
) -> None:
    """Ridge regression on features that the root of the covariance mixes, on a grid that is not square."""
    rows, columns, ridge = 4, 9, 2.5
    views = draw_views(rows * columns, MapConfig(repeats=7, visible_fraction=1 / 9))
    similarities = torch.randn(len(views), generator=torch.manual_seed(3)).double()
    places = [(row, column) for row in range(rows) for column in range(columns)]
    covariance = np.array(
        [
            [
                np.exp(-math.dist(one, other) / length_scale) if length_scale else one == other
                for other in places
            ]
            for one in places
        ],
        float,
    )
    root = np.linalg.cholesky(covariance)
    is_visible = np.zeros((len(views), rows * columns))
    np.put_along_axis(is_visible, views.numpy(), 1.0, axis=1)
    expected = root @ Ridge(alpha=ridge).fit(is_visible @ root, similarities.numpy()).coef_
    found = ridge_solver(views, (rows, columns), ridge, length_scale).double() @ (
        similarities - similarities.mean()
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_few_views_show_a_large_source_better_where_neighbours_are_alike() -> None:
    """A source of 3 x 3 patches and similarities with twice as much noise as signal; mean average precision of 20 draws."""
    source = torch.zeros(8, 8)
    source[2:5, 4:7] = 1.0
    views = draw_views(64, QUICK)
    clean = source.flatten()[views].sum(dim=1)
    noise = 2 * clean.std() * torch.randn(20, len(views), generator=torch.manual_seed(4))

    def precision(length_scale: float) -> float:
        maps = ridge_solver(views, (8, 8), QUICK.ridge, length_scale) @ (clean + noise - clean.mean()).T
        truth = source.flatten().bool().numpy()
        return float(np.mean([average_precision_score(truth, cells.numpy()) for cells in maps.T]))

    assert precision(QUICK.length_scale) > precision(0.0) + 0.05


class SeesOnePatch:
    """A model whose view is similar to the audio as far as one patch is visible."""

    def __init__(self, patch: int) -> None:
        self.patch = patch
        self.config = SimpleNamespace(num_image_patches=64, image_grid=(8, 8))

    def to(self, device: torch.device) -> "SeesOnePatch":
        return self

    def eval(self) -> "SeesOnePatch":
        return self

    def image_embedding(self, image: Tensor, kept: Tensor) -> Tensor:
        visible = (kept == self.patch).any(dim=1).float()
        return torch.stack([0.2 + visible, torch.ones(len(kept))], dim=1)


def test_the_masked_view_map_is_hottest_at_the_source() -> None:
    heatmap_model = HeatmapModel(SeesOnePatch(19), MapConfig(), CPU)  # type: ignore[arg-type]
    audio = AudioFeatures(torch.zeros(2), torch.tensor([1.0, 0.0]))
    heatmap = heatmap_model.encode_image(image(64), "masked-view").heatmap(audio)
    assert int(heatmap.cells.argmax()) == 19
    others = heatmap.cells.flatten()[torch.arange(64) != 19]
    assert float(heatmap.cells.max()) > 5 * float(others.abs().max())
    assert 0 < heatmap.level < 1


def test_views_are_the_encodings_of_their_patches_alone() -> None:
    model = CavMaeSync(micro_model(image_size=64)).eval()
    heatmap_model = HeatmapModel(model, MapConfig(repeats=20), CPU)
    features = heatmap_model.encode_image(image(64), "masked-view")
    with torch.inference_mode():
        normalised = normalise_images(image(64)[None])
        for view in (0, 200, 319):
            alone = model.encode_image(normalised, heatmap_model.views[view : view + 1]).global_token[0]
            torch.testing.assert_close(features.embeddings[view], normalize(alone, dim=0), atol=1e-5, rtol=0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes", [{"repeats": 0}, {"visible_fraction": 1.0}, {"ridge": 0.0}, {"length_scale": -1.0}]
)
def test_settings_that_give_no_map_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give no map"):
        MapConfig(**changes)  # type: ignore[arg-type]


def test_the_settings_are_those_that_the_documentation_says_were_chosen_on_other_seeds() -> None:
    page, config = (ROOT / "docs" / "evaluating.md").read_text(), MapConfig()
    fraction = f"1/{1 / config.visible_fraction:g}"
    assert f"views that show {fraction}\nof them (4 of 64, 12 of 196), {config.repeats} times over" in page
    assert f"ridge regression (strength {config.ridge:g})" in page
    views = len(draw_views(64, config))
    (chosen,) = re.findall(rf"^\| {fraction} \| {config.repeats} \| {views} \| (.+) \|$", page, re.MULTILINE)
    same_cost = re.findall(rf"^\| \S+ \| \d+ \| {views} \| (.+) \|$", page, re.MULTILINE)
    means = [np.mean([*map(float, row.split(" | "))]) for row in (chosen, *same_cost)]
    assert means[0] > max(means) - 0.1
    assert "The choice stays" in page


def test_a_map_with_nan_is_no_score() -> None:
    with pytest.raises(EvaluationError, match=r"map denseav of a\.jpg: 1 of 4 values are NaN"):
        require_finite(torch.tensor([[0.0, float("nan")], [1.0, 2.0]]), "map denseav of a.jpg")


# Prompts


@pytest.mark.parametrize(
    ("num_rows", "windows", "starts"),
    [
        (998, "one", [291]),
        (998, "mean", [0, 291, 582]),
        (416, "mean", [0]),
        (100, "one", [0]),
        (100, "mean", [0]),
    ],
)
def test_windows_cover_the_audio_or_lie_in_its_middle(num_rows: int, windows: str, starts: list[int]) -> None:
    assert window_starts(num_rows, 416, windows) == starts  # type: ignore[arg-type]


def test_padding_behind_short_audio_is_not_averaged() -> None:
    # A patch of 16 rows counts where its middle holds audio: the second from 25 mel rows on.
    for num_rows, valid in ((25, [True, True]), (24, [True, False])):
        cut = PromptReader(RULE, patch_size=16).cut(np.ones(400 + 160 * (num_rows - 1), np.float32))
        assert cut.valid.tolist() == [valid]
        assert cut.mel.shape == (1, 32, 128)


def test_a_prompt_of_ten_seconds_is_padded_with_silence_as_denseav_pads_it() -> None:
    """The published statistics make -2.42 of silence, ln(2 ** -23); raw zeros in the log-mel would be 1.13, loud."""
    published = WindowRule(rows=1024, mean=-5.081, std=4.4849, pad_value=0.0)
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    cut = PromptReader(published, patch_size=16).cut(noise)
    assert int(cut.valid.sum()) == 62
    assert cut.valid[0, :62].all()
    assert cut.mel[0, 1000:].numpy() == pytest.approx(
        -2.42, abs=0.005
    )  # rows that hold no sample of the audio


def test_audio_of_less_than_a_row_is_an_error() -> None:
    with pytest.raises(MediaError, match="399 samples of audio are less than one row"):
        PromptReader(RULE, patch_size=16).cut(np.ones(399, np.float32))
