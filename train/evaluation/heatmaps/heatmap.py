"""Where in a picture a sound comes from: one value for every patch.

Two routes to such a map. `denseav`: patch tokens of the picture times patch tokens of the sound, averaged over
frequency and time, as DenseAV scores models of this family. `masked-view` is our own: the picture is encoded in
many views that show few of its patches, as in training, and the map tells which patches, when visible, made the
view resemble the sound. Axis words: P patches of a picture, V views, W windows of sound, D embedding width.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from cavsync.model.encoder import Encoder
from cavsync.model.output import Encoding
from cavsync.train.data.images import normalise_images
from cavsync.train.evaluation.choices import AudioFeatureKind, MapMethod, Similarity
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments

# So many views go through the encoder at once.
VIEWS_PER_BATCH = 192


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """How maps are made. The first two fields concern `denseav`, the others `masked-view`."""

    sound: AudioFeatureKind = "tokens"
    """What patches are compared with: each audio patch, the mean of them, or the sound's embedding."""
    similarity: Similarity = "dot"
    repeats: int = 24
    """How often all patches are dealt out into views."""
    visible_share: float = 1 / 16
    """Of the patches, those that one view shows: 4 of 64, 12 of 196."""
    ridge: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1 or not 0 < self.visible_share < 1 or self.ridge <= 0:
            raise ValueError(
                f"{self.repeats=}, {self.visible_share=} and {self.ridge=} give no map: repeats must be 1 or "
                "more, the share between 0 and 1, the ridge positive."
            )


@dataclass(frozen=True)
class Heard:
    """A sound, ready for both routes."""

    patch_probe: Tensor  # (D,) what picture patches are multiplied with
    embedding: Tensor  # (D,) mean over windows of the unit embeddings


@dataclass(frozen=True)
class Heatmap:
    """The map of one sound in one picture."""

    cells: Tensor  # (rows, columns) float32 on the CPU
    level: float = 0.0
    """How alike sound and picture are as a whole, where `cells` tells differences between patches only."""


class ImageFeatures(Protocol):
    """A picture, encoded once for any number of sounds."""

    def heat(self, heard: Heard) -> Heatmap: ...


@dataclass(frozen=True)
class PatchSight:
    patches: Tensor  # (rows, columns, D)

    def heat(self, heard: Heard) -> Heatmap:
        return Heatmap((self.patches @ heard.patch_probe).cpu())


@dataclass(frozen=True)
class ViewSight:
    embeddings: Tensor  # (V, D) unit vectors
    solver: Tensor  # (P, V), see `ridge_solver`
    grid: tuple[int, int]

    def heat(self, heard: Heard) -> Heatmap:
        likeness = self.embeddings @ normalize(heard.embedding, dim=0)
        level = likeness.mean()
        cells = self.solver @ (likeness - level)
        return Heatmap(cells.reshape(self.grid).cpu(), float(level))


class SoundMapper:
    """A model that listens and looks."""

    def __init__(self, model: Encoder, config: MapConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model.to(device).eval(), config, device
        num_patches = model.config.num_image_patches
        self.views = draw_views(num_patches, config).to(device)
        self.solver = ridge_solver(self.views, num_patches, config.ridge)

    @torch.inference_mode()
    def hear(self, windows: AudioSegments) -> Heard:
        encoding = self.model.encode_audio(windows.mel.to(self.device))
        probe = patch_probe(encoding, windows.valid.to(self.device), self.config)
        return Heard(probe, normalize(encoding.global_token.float(), dim=-1).mean(dim=0))

    @torch.inference_mode()
    def look(self, picture: Tensor, route: MapMethod) -> ImageFeatures:
        """At a uint8 (side, side, 3) picture."""
        image = normalise_images(picture[None].to(self.device))
        if route == "denseav":
            patches = self.model.encode_image(image).patches[0].float()
            return PatchSight(normalize(patches, dim=-1) if self.config.similarity == "cosine" else patches)
        batches = torch.split(self.views, VIEWS_PER_BATCH)
        tokens = torch.cat([self.model.encode_image(image, kept).global_token for kept in batches])
        return ViewSight(normalize(tokens.float(), dim=-1), self.solver, self.model.config.image_grid)


def patch_probe(encoding: Encoding, valid: Tensor, config: MapConfig) -> Tensor:
    """The vector whose product with a picture patch is the mean of the wanted products, shape (D,).

    A mean of products with one patch is the product with a mean, so no (patch, frequency, time) block is made; with
    "dot", "tokens" and "mean" are therefore the same map. `valid` is (W, columns).
    """
    as_compared = _unit if config.similarity == "cosine" else _as_is
    if config.sound == "global":
        return as_compared(encoding.global_token.float()).mean(dim=0)
    cells = encoding.patches.float()  # (W, frequency, time, D)
    cells = as_compared(cells) if config.sound == "tokens" else cells
    heard = valid.to(cells.dtype)[:, :, None]
    per_window = (cells.mean(dim=1) * heard).sum(dim=1) / heard.sum(dim=1)
    return (as_compared(per_window) if config.sound == "mean" else per_window).mean(dim=0)


def draw_views(num_patches: int, config: MapConfig) -> Tensor:
    """(V, visible) patch numbers. Each repeat deals all patches out into equal views; a remainder sits out."""
    visible = max(1, round(num_patches * config.visible_share))
    random = np.random.default_rng(config.seed)
    num_views = num_patches // visible
    deals = [random.permutation(num_patches)[: num_views * visible] for _ in range(config.repeats)]
    return torch.from_numpy(np.concatenate(deals).reshape(-1, visible))


def ridge_solver(views: Tensor, num_patches: int, ridge: float) -> Tensor:
    """(P, V): centred likenesses of the views -> each patch's part in them, by ridge regression."""
    seen = torch.zeros(len(views), num_patches, dtype=torch.float64, device=views.device)
    seen.scatter_(1, views, 1.0)
    centred = seen - seen.mean(dim=0)
    penalty = ridge * torch.eye(num_patches, dtype=torch.float64, device=views.device)
    solver: Tensor = torch.linalg.solve(centred.T @ centred + penalty, centred.T)
    return solver.float()


def upsampled(cells: Tensor, side: int) -> np.ndarray:
    """(side, side) float32 by bilinear interpolation."""
    if tuple(cells.shape) == (side, side):
        return cells.float().numpy()
    pixels: np.ndarray = interpolate(cells[None, None].float(), (side, side), mode="bilinear")[0, 0].numpy()
    return pixels


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors, dim=-1)


def _as_is(vectors: Tensor) -> Tensor:
    return vectors
