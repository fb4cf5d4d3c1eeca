"""Audio that no object of an image makes: silence, noise and the sound of another clip, and the maps of them.

A model that follows its audio gives such audio lower maps, or maps elsewhere. Each image is encoded once for all audio, silence and
noise once for all images, and another clip's sound is the right sound of its own image: only the maps cost anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, MediaError
from cavsync.train.embedding.encode import require_finite
from cavsync.train.evaluation.heatmaps.audio_prompt import MAX_PROMPT_S, PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import AudioFeatures, Heatmap, HeatmapModel, ImageFeatures

SILENCE, NOISE, FOREIGN = "silence", "noise", "another clip"
NEGATIVES = (SILENCE, NOISE, FOREIGN)
# White noise of -20 dB of full scale. Images take turns with so many draws of it.
NOISE_RMS, NUM_NOISES = 0.1, 8


@dataclass(frozen=True)
class NegativeAudio:
    """Silence and noise, each as long as the longest prompt of a file, and the order in which other rows lend their sound."""

    silence: AudioFeatures
    noises: tuple[AudioFeatures, ...]
    order: tuple[int, ...]  # a circle of all rows

    @classmethod
    def encode(cls, model: HeatmapModel, reader: PromptReader, num_rows: int, seed: int) -> "NegativeAudio":
        random = np.random.default_rng(seed)
        order = random.permutation(num_rows).tolist()
        num_samples = round(MAX_PROMPT_S * SAMPLE_RATE_HZ)
        draws = random.standard_normal((NUM_NOISES, num_samples)).astype(np.float32)
        silence, *noises = (
            model.encode_audio(reader.cut(waveform))
            for waveform in (np.zeros(num_samples, np.float32), *(NOISE_RMS * draws))
        )
        return cls(silence, tuple(noises), tuple(order))

    def of(
        self, row: int, is_foreign: Callable[[int], bool], encode: Callable[[int], AudioFeatures]
    ) -> dict[str, AudioFeatures]:
        """The negatives of a row; the foreign sound is that of the next row of the circle that has one and can be read."""
        prompts = {SILENCE: self.silence, NOISE: self.noises[row % NUM_NOISES]}
        place = self.order.index(row)
        for other in (*self.order[place + 1 :], *self.order[:place]):
            if is_foreign(other):
                try:
                    return prompts | {FOREIGN: encode(other)}
                except MediaError:
                    continue
        return prompts


@dataclass
class PromptedMaps:
    """Image by image, the maps of one method on its own scale: of the right sound, and of each negative.

    Every map is (rows, columns) float32; None where no clip is foreign to the image.
    """

    right: list[np.ndarray] = field(default_factory=list)
    negatives: dict[str, list[np.ndarray | None]] = field(
        default_factory=lambda: {name: [] for name in NEGATIVES}
    )

    def add(
        self, image: ImageFeatures, right: Heatmap, negatives: Mapping[str, AudioFeatures], title: str
    ) -> None:
        self.right.append(_absolute(right))
        for name, maps in self.negatives.items():
            if name not in negatives:
                maps.append(None)
                continue
            heatmap = image.heatmap(negatives[name])
            require_finite(heatmap.cells, f"the map of {name} in {title}")
            maps.append(_absolute(heatmap))


def _absolute(heatmap: Heatmap) -> np.ndarray:
    """(rows, columns)"""
    cells: np.ndarray = (heatmap.cells + heatmap.level).to(torch.float32).numpy()
    return cells
