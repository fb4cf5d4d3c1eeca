"""Scores that papers report, for comparison. `source` says where each was read.

"second-hand" marks figures quoted in other places than the paper itself; look them up before you build on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    model: str
    figures: Sequence[float | None]  # None: not published
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


# mAP on AudioSet trained with its 20 thousand balanced clips, mAP trained with all, and top-1 on VGGSound.
FINETUNED = {
    "both": (
        Published("CAV-MAE Scale+", (42.0, 51.2, 65.5), "CAV-MAE repository"),
        Published("CAV-MAE Scale++", (42.2, 51.1, 65.9), "CAV-MAE repository, logs"),
        Published("AVSiam, base", (41.6, 50.1, 64.9), "AVSiam repository"),
        Published("MAViL", (44.9, 53.3, 67.1), "MAViL paper, second-hand"),
        Published("EquiAV", (None, 54.6, 67.1), "EquiAV paper, second-hand"),
        Published("UAVM", (None, 50.4, 65.8), "UAVM paper, second-hand"),
        Published("MBT", (None, 49.6, 64.1), "MBT paper, second-hand"),
    ),
    "audio": (Published("CAV-MAE", (37.7, 46.6, 59.8), "CAV-MAE repository"),),
    "image": (Published("CAV-MAE", (20.0, None, 47.0), "CAV-MAE repository"),),
}
# The encoders frozen under an attention probe.
PROBED = {
    "both": (
        Published("CAV-MAE Sync", (30.5, None, 52.7), "Sync paper, second-hand"),
        Published("TG-DP", (32.0, None, 52.7), "TG-DP paper (CVPR 2026), second-hand"),
    ),
    "audio": (
        Published("CAV-MAE Sync", (29.3, None, None), "TG-DP paper (CVPR 2026), second-hand"),
        Published("TG-DP", (31.2, None, None), "TG-DP paper (CVPR 2026), second-hand"),
    ),
    "image": (
        Published("CAV-MAE Sync", (14.3, None, None), "TG-DP paper (CVPR 2026), second-hand"),
        Published("TG-DP", (17.8, None, None), "TG-DP paper (CVPR 2026), second-hand"),
    ),
}


def cells(published: Sequence[Published]) -> list[list[str]]:
    """Rows of a table: model, figures, source."""
    return [[one.model, *map(_figure, one.figures), one.source] for one in published]


def _figure(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f}"
