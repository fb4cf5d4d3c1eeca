"""Figures that others published, to read ours beside. `source` says where each was read.

"second-hand" marks figures quoted in other places than the paper itself; look them up before you build on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    model: str
    figures: Sequence[float]
    source: str


DENSEAV_PAPER = "DenseAV paper (CVPR 2024), second-hand"

# mAP and mIoU of ADE20K_Sound, basic values.
ADE20K_SOUND = (
    Published("DAVENet", (16.8, 17.0), DENSEAV_PAPER),
    Published("ImageBind", (18.3, 18.1), DENSEAV_PAPER),
    Published("CAV-MAE", (26.0, 20.5), DENSEAV_PAPER),
    Published("DenseAV", (32.7, 24.2), DENSEAV_PAPER),
)

# cIoU and AUC.
VGGSS = (
    Published("LVS", (34.4, 38.2), "LVS paper (CVPR 2021), second-hand"),
    Published("EZ-VSL, 144k", (38.85, 39.54), "EZ-VSL repository"),
    Published("SSL-TIE", (38.63, 39.65), "SSL-TIE paper, second-hand"),
    Published("FNAC, 144k", (39.50, 39.66), "FNAC repository"),
)
FLICKR = (
    Published("EZ-VSL, 144k", (83.13, 63.06), "EZ-VSL repository"),
    Published("EZ-VSL, full", (83.94, 63.60), "EZ-VSL repository"),
)

# AP, max-F1 and cIoU on the sets extended with non-sounding rows.
EXTENDED_VGGSS = (Published("SLAVC", (32.95, 40.00, 37.79), "SLAVC repository"),)
EXTENDED_FLICKR = (Published("SLAVC", (51.63, 59.10, 83.60), "SLAVC repository"),)


def cells(published: Sequence[Published]) -> list[list[str]]:
    """Rows of a table: model, figures, source."""
    return [[one.model, *(f"{figure:.1f}" for figure in one.figures), one.source] for one in published]
