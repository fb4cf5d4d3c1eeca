"""A checkpoint, and how heatmaps are made with it: what segmentation and localisation begin with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cavsync.train.choices import MapMethod, Windows
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import HeatmapModel, MapConfig


@dataclass(frozen=True, kw_only=True)
class MapTask:
    checkpoint: LoadedCheckpoint
    methods: tuple[MapMethod, ...]
    map: MapConfig
    windows: Windows
    max_missing: float
    """Fraction of the listed rows that may be left out; a larger one is an error."""
    seed: int = 0

    @classmethod
    def of(
        cls,
        checkpoint: LoadedCheckpoint,
        methods: Sequence[MapMethod],
        config: MapConfig,
        windows: Windows,
        max_missing: float,
    ) -> "MapTask":
        """With each of the methods once."""
        return cls(
            checkpoint=checkpoint,
            methods=tuple(dict.fromkeys(methods)),
            map=config,
            windows=windows,
            max_missing=max_missing,
        )

    @property
    def weights(self) -> Path:
        return self.checkpoint.weights

    def heatmap_model(self) -> tuple[HeatmapModel, PromptReader]:
        model = HeatmapModel(
            self.checkpoint.model, self.map, self.checkpoint.device, self.checkpoint.precision
        )
        return model, PromptReader.of(self.checkpoint, self.windows)

    def as_dict(self) -> dict[str, Any]:
        inputs = self.checkpoint.inputs
        return {
            "methods": list(self.methods),
            "map": asdict(self.map),
            "windows": self.windows,
            "max_missing": self.max_missing,
            "mel_mean": inputs.mel_mean,
            "mel_std": inputs.mel_std,
            "pad_value": inputs.pad_value,
        }

    def facts(self) -> list[tuple[str, str]]:
        """For the foot of a report."""
        config = self.map
        return [
            ("weights", str(self.weights)),
            (
                "map denseav",
                f"{config.similarity} product of image patches with audio {config.audio_features}",
            ),
            ("map masked-view (our method)", config.views),
            ("audio segments", self.windows),
        ]
