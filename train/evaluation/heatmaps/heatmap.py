"""Heatmaps of where in an image its audio comes from: one value for every patch.

`denseav`: image patches times audio patches, averaged over frequency and time, as DenseAV scores models of this
family. `masked-view` is our own: the image is encoded in many views that show few of its patches, as in training, and
the heatmap says which patches, when visible, make a view resemble the audio. Axis words: P patches of an image, V
views, S segments of audio, D embedding width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from cavsync.model.encoder import Encoder
from cavsync.model.output import Encoding
from cavsync.pipeline.dataset.schema import MediaError
from cavsync.train.choices import AudioFeatureKind, MapMethod, Similarity
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.config import Precision
from cavsync.train.engine.device import autocast
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments

# So many views go through the encoder at once.
VIEWS_PER_BATCH = 192


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """How heatmaps are made. The first two fields concern `denseav`, the others `masked-view`."""

    audio_features: AudioFeatureKind = "tokens"
    """What patches are compared with: each audio patch, the mean of them, or the audio embedding."""
    similarity: Similarity = "dot"
    repeats: int = 24
    """How often all patches are drawn into views."""
    visible_fraction: float = 1 / 16
    """Of the patches, those that one view shows: 4 of 64, 12 of 196."""
    ridge: float = 4.0
    length_scale: float = 0.0
    """How far apart the parts of patches are alike, in patches; 0 takes each patch for itself."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            self.repeats < 1
            or not 0 < self.visible_fraction < 1
            or self.ridge <= 0
            or not 0 <= self.length_scale < np.inf
        ):
            raise ValueError(
                f"{self.repeats=}, {self.visible_fraction=}, {self.ridge=} and {self.length_scale=} give no map: "
                "repeats must be 1 or more, visible_fraction between 0 and 1, ridge positive, length_scale 0 or more."
            )

    @property
    def views(self) -> str:
        """The settings of `masked-view`, for the foot of a report."""
        alike = f", patches alike within {self.length_scale:g} patches" if self.length_scale else ""
        return (
            f"{self.repeats} draws of the patches into views that show 1/{1 / self.visible_fraction:g} of them, "
            f"ridge {self.ridge:g}{alike}, seed {self.seed}"
        )


QUICK = MapConfig(repeats=4, visible_fraction=1 / 32, ridge=1.0, length_scale=0.7)
"""For videos, which have a heatmap in every window: a quarter of the default's work at 196 patches, chosen on models and
worlds that no reported score is of (`benchmarks.masked_view`; docs/own-videos.md says what it costs)."""


@dataclass(frozen=True)
class AudioFeatures:
    """Audio, encoded once for both methods and any number of images."""

    probe: Tensor | None  # (D,) what image patches are multiplied with; masked views need none
    embedding: Tensor  # (D,) mean over segments of the unit embeddings


@dataclass(frozen=True)
class Heatmap:
    """Where one audio comes from in one image."""

    cells: Tensor  # (rows, columns) float32 on the CPU
    level: float = 0.0
    """The similarity of audio and image as a whole, where `cells` holds differences between patches only."""


class ImageFeatures(Protocol):
    """An image, encoded once for any number of audios."""

    def heatmap(self, audio: AudioFeatures) -> Heatmap: ...


@dataclass(frozen=True)
class PatchFeatures:
    patches: Tensor  # (rows, columns, D)

    def heatmap(self, audio: AudioFeatures) -> Heatmap:
        assert audio.probe is not None, "encode_audio makes it"
        return Heatmap((self.patches @ audio.probe).cpu())


@dataclass(frozen=True)
class MaskedViewFeatures:
    embeddings: Tensor  # (V, D) unit vectors
    solver: Tensor  # (P, V), see `ridge_solver`
    grid: tuple[int, int]

    def heatmap(self, audio: AudioFeatures) -> Heatmap:
        similarity = self.embeddings @ normalize(audio.embedding, dim=0)  # (V,)
        level = similarity.mean()
        cells = self.solver @ (similarity - level)  # (P,)
        return Heatmap(cells.reshape(self.grid).cpu(), float(level))


class HeatmapModel:
    """A model, and how heatmaps are made of its embeddings."""

    def __init__(
        self, model: Encoder, config: MapConfig, device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.model, self.config, self.device = model.to(device).eval(), config, device
        self.precision = precision
        self.views = draw_views(model.config.num_image_patches, config).to(device)
        self.solver = ridge_solver(self.views, model.config.image_grid, config.ridge, config.length_scale)

    @torch.inference_mode()
    def encode_audio(self, segments: AudioSegments) -> AudioFeatures:
        with autocast(self.device, self.precision):
            encoding = self.model.encode_audio(segments.mel.to(self.device))
        probe = audio_probe(encoding, segments.valid.to(self.device), self.config)
        return AudioFeatures(probe, normalize(encoding.global_token.float(), dim=-1).mean(dim=0))

    @torch.inference_mode()
    def encode_image(self, image: Tensor, method: MapMethod) -> ImageFeatures:
        """Of a uint8 (side, side, 3) image."""
        image = normalise_images(image[None].to(self.device))  # (1, 3, side, side)
        if method == "denseav":
            with autocast(self.device, self.precision):
                patches = self.model.encode_image(image).patches[0].float()
            return PatchFeatures(
                normalize(patches, dim=-1) if self.config.similarity == "cosine" else patches
            )
        batches = torch.split(self.views, VIEWS_PER_BATCH)
        with autocast(self.device, self.precision):
            tokens = torch.cat([self.model.image_embedding(image, kept) for kept in batches])
        return MaskedViewFeatures(
            normalize(tokens.float(), dim=-1), self.solver, self.model.config.image_grid
        )


class EncodedAudio:
    """The features of audio files, each encoded once; one that cannot be read fails each time."""

    def __init__(self, model: HeatmapModel) -> None:
        self._model = model
        self._encoded: dict[str, AudioFeatures | MediaError] = {}

    def of(self, name: str, read: Callable[[], AudioSegments]) -> AudioFeatures:
        """Of the file `name`, which `read` reads. Raises MediaError."""
        if name not in self._encoded:
            try:
                self._encoded[name] = self._model.encode_audio(read())
            except MediaError as error:
                self._encoded[name] = error
        audio = self._encoded[name]
        if isinstance(audio, MediaError):
            raise audio
        return audio


def audio_probe(encoding: Encoding, valid: Tensor, config: MapConfig) -> Tensor:
    """The (D,) vector whose product with an image patch is the mean of the wanted products.

    A mean of products with one patch is the product with a mean, so no (patch, frequency, time) block is made; with
    "dot", "tokens" and "mean" therefore give the same heatmap. `valid` (S, columns) bool marks patches of audio.
    """
    as_compared = _unit if config.similarity == "cosine" else _as_is
    if config.audio_features == "global":
        return as_compared(encoding.global_token.float()).mean(dim=0)
    cells = encoding.patches.float()  # (S, frequency, time, D)
    cells = as_compared(cells) if config.audio_features == "tokens" else cells
    weights = valid.to(cells.dtype)[:, :, None]  # (S, time, 1)
    per_segment = (cells.mean(dim=1) * weights).sum(dim=1) / weights.sum(dim=1)  # (S, D)
    return (as_compared(per_segment) if config.audio_features == "mean" else per_segment).mean(dim=0)


def draw_views(num_patches: int, config: MapConfig) -> Tensor:
    """(V, visible) patch indices. Each repeat draws all patches into equal views; a remainder is left out."""
    visible = max(1, round(num_patches * config.visible_fraction))
    random = np.random.default_rng(config.seed)
    num_views = num_patches // visible
    draws = [random.permutation(num_patches)[: num_views * visible] for _ in range(config.repeats)]
    return torch.from_numpy(np.concatenate(draws).reshape(-1, visible))


def ridge_solver(views: Tensor, grid: tuple[int, int], ridge: float, length_scale: float) -> Tensor:
    """(P, V): centred similarities of the V views -> each patch's part in them, by ridge regression.

    The parts are assumed beforehand to covary as `patch_covariance` says. With a length scale of 0 this is plain ridge
    regression; with more it is kriging, the mean of a Gaussian process with noise of variance `ridge`.
    """
    covariance = patch_covariance(grid, length_scale).to(views.device)
    is_visible = torch.zeros(len(views), len(covariance), dtype=torch.float64, device=views.device)
    is_visible.scatter_(1, views, 1.0)
    centred = is_visible - is_visible.mean(dim=0)  # (V, P)
    explained = centred @ covariance
    noise = ridge * torch.eye(len(views), dtype=torch.float64, device=views.device)
    solver: Tensor = torch.linalg.solve(explained @ centred.T + noise, explained).T
    return solver.float().contiguous()


def patch_covariance(grid: tuple[int, int], length_scale: float) -> Tensor:
    """(P, P) float64 of a grid in patches, row by row: exp(-distance / `length_scale`), and the identity for 0."""
    places = torch.cartesian_prod(*(torch.arange(length, dtype=torch.float64) for length in grid))
    distance = torch.cdist(places, places)  # in patches
    return (
        torch.exp(-distance / length_scale) if length_scale else torch.eye(len(places), dtype=torch.float64)
    )


def upsampled(cells: Tensor | np.ndarray, side: int) -> np.ndarray:
    """(rows, columns) cells as (side, side) float32, by bilinear interpolation."""
    cells = torch.as_tensor(cells)
    if tuple(cells.shape) == (side, side):
        return cells.float().numpy()
    pixels: np.ndarray = interpolate(cells[None, None].float(), (side, side), mode="bilinear")[0, 0].numpy()
    return pixels


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors, dim=-1)


def _as_is(vectors: Tensor) -> Tensor:
    return vectors
