"""How much of what sounds lies in the patches of an image that a model's own attention ranks highest.

The ranks are TG-DP's priorities: the attention of the global token to each patch in the last joint block, of the whole image. Half of
the patches are kept, as TG-DP keeps them. Needs the masks of the small world. Axis words: F frames of a clip, P patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.masking import draw_mask
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.synthetic.classes import BACKGROUND_ID, MUTE_ID
from cavsync.pipeline.synthetic.masks import on_screen, read_masks
from cavsync.pipeline.synthetic.paths import masks_beside
from cavsync.train.data.images import normalise_images
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.errors import EvaluationError

MASK_RATIO = 0.5


@dataclass(frozen=True)
class MaskedClips:
    """Clips of a split of the small world, with the masks of their frames."""

    clips: ClipAllPairs
    files: Sequence[Path]
    """The mask file of each clip of the split."""

    @classmethod
    def of(cls, clips: ClipAllPairs) -> "MaskedClips":
        """EvaluationError where the dataset is not that of a world, or its masks are gone."""
        config = clips.config
        rows = Dataset.open(config.one_path).index_table(config.split, ["key", "source"])
        source = dict(zip(rows["key"].to_pylist(), rows["source"].to_pylist(), strict=True))
        files = [masks_beside(Path(source[key] or key)) for key in clips.store.keys]
        if lost := [file for file in files if not file.is_file()]:
            raise EvaluationError(
                f"kept-object needs masks of the clips that are scored, and {lost[0]} is not there ({len(lost)} of "
                f"{len(files)}). Only the small world has them: leave the metric out, or let the study make its world."
            )
        return cls(clips, files)

    @torch.no_grad()
    def kept_fraction(self, model: CavMaeSync, numbers: Sequence[int], device: torch.device) -> float:
        """Of the area of sounding objects, in [0, 1]: the mean over all frames of these clips that show one; NaN without any."""
        fractions = [self._of_clip(model, number, device) for number in numbers]
        found = torch.cat(fractions)
        return float(found.nanmean())

    def _of_clip(self, model: CavMaeSync, number: int, device: torch.device) -> Tensor:
        """(F,), NaN for a frame without a sounding object."""
        images = torch.stack([*self.clips[number]["image"]]).to(device)
        priority = model.guide_image(normalise_images(images), "global-to-patch").priority
        assert priority is not None
        times_s, masks = read_masks(self.files[number])
        shown = masks[on_screen(times_s, self.clips.store[number].frame_pts_s())]
        return kept_fractions(priority.float().cpu(), sounding_area(shown, model.config.image_grid))


def sounding_area(masks: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """(F, P) fractions of each patch that sounding objects cover, from (F, height, width) masks."""
    sounds = torch.from_numpy((masks != BACKGROUND_ID) & (masks != MUTE_ID)).float()
    return adaptive_avg_pool2d(sounds[:, None], grid).flatten(1)


def kept_fractions(priority: Tensor, area: Tensor) -> Tensor:
    """(F,) fractions of the (F, P) area in the half of the patches of the highest (F, P) priority; NaN where there is none."""
    kept = draw_mask(-priority, MASK_RATIO).kept
    return area.gather(1, kept).sum(dim=1) / area.sum(dim=1)
