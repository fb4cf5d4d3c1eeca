"""What is asked of a checkpoint when it makes maps: shared by segmentation and localisation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import PUBLISHED_INPUTS, find_weights, trained_inputs
from cavsync.train.evaluation.choices import MapMethod, Windows
from cavsync.train.evaluation.heatmaps.audio_prompt import PromptReader
from cavsync.train.evaluation.heatmaps.heatmap import MapConfig, SoundMapper


@dataclass(frozen=True, kw_only=True)
class MapTask:
    weights: Path
    inputs: DataConfig  # of which the statistics of the log-mel are used
    routes: tuple[MapMethod, ...]
    map: MapConfig
    windows: Windows
    max_missing: float
    """Share of the listed rows that may be left out; a larger one is an error."""
    seed: int = 0

    @classmethod
    def of(
        cls,
        checkpoint: Path,
        routes: Sequence[MapMethod],
        config: MapConfig,
        windows: Windows,
        max_missing: float,
    ) -> "MapTask":
        """Inputs are those of the run that the checkpoint lies in, else those of published weights."""
        weights = find_weights(checkpoint)
        return cls(
            weights=weights,
            inputs=trained_inputs(weights) or PUBLISHED_INPUTS,
            routes=tuple(dict.fromkeys(routes)),
            map=config,
            windows=windows,
            max_missing=max_missing,
        )

    def mapper(self, device: torch.device) -> tuple[SoundMapper, PromptReader]:
        """Raises CheckpointError for a file that is no model."""
        model = load_model(self.weights)
        reader = PromptReader.of(self.inputs, model.config, self.windows)
        return SoundMapper(model, self.map, device), reader

    def as_dict(self) -> dict[str, Any]:
        return {
            "routes": list(self.routes),
            "map": asdict(self.map),
            "windows": self.windows,
            "max_missing": self.max_missing,
            "mel_mean": self.inputs.mel_mean,
            "mel_std": self.inputs.mel_std,
            "pad_value": self.inputs.pad_value,
        }

    def facts(self) -> list[tuple[str, str]]:
        """For the foot of a report."""
        config = self.map
        views = (
            f"{config.repeats} deals of the patches into views that show {config.visible_share:.3g} of them, "
            f"ridge {config.ridge:g}, seed {config.seed}"
        )
        return [
            ("weights", str(self.weights)),
            (
                "map denseav",
                f"{config.similarity} product of picture patches with the sound's {config.sound}",
            ),
            ("map masked-view (our method)", views),
            ("windows of a sound", self.windows),
        ]
