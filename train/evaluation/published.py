"""Scores that papers report, for comparison. `source` says where each was read; figures without a source are left out.

"second-hand" marks figures quoted in other places than the paper itself; look them up before you build on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    model: str
    figures: Sequence[float | None]  # None: not published, or not found in a source
    source: str


# mAP and mIoU of ADE20K_Sound, basic values. The DenseAV paper's table was not at hand, and listings contradict each other
# in the mIoU of CAV-MAE.
ADE20K_SOUND = (
    Published("CAV-MAE", (26.0, None), "a listing of the DenseAV paper's table, second-hand"),
    Published("DenseAV", (None, 24.2), "a summary of the LeGrad paper, second-hand"),
)

EZ_VSL, SLAVC, FNAC = "EZ-VSL repository", "SLAVC repository", "FNAC repository"
# cIoU and AUC.
VGGSS = (
    Published("EZ-VSL, 144k", (38.85, 39.54), EZ_VSL),
    Published("EZ-VSL, full", (39.34, 39.78), EZ_VSL),
    Published("FNAC, 144k", (39.50, 39.66), FNAC),
)
FLICKR = (
    Published("EZ-VSL, 144k", (83.13, 63.06), EZ_VSL),
    Published("EZ-VSL, full", (83.94, 63.60), EZ_VSL),
)

# AP, max-F1 and cIoU on the sets extended with non-sounding rows.
EXTENDED_VGGSS = (Published("SLAVC", (32.95, 40.00, 37.79), SLAVC),)
EXTENDED_FLICKR = (Published("SLAVC", (51.63, 59.10, 83.60), SLAVC),)

# Fractions of pairs whose original scores above the audio moved by 50, 100, 200, 300, 500 ms, and of all of them.
SYNCBENCH = "AV-SyncBench repository, README"
AV_SYNCBENCH = (
    Published("Synchformer, VGGSound", (51.0, 54.1, 58.2, 62.2, 66.2, 58.3), SYNCBENCH),
    Published("SparseSync, VGGSound-Sparse", (51.8, 51.4, 56.1, 60.2, 64.8, 56.9), SYNCBENCH),
)

README_OF_CAVMAE, LOGS_OF_CAVMAE = "CAV-MAE repository, README", "CAV-MAE repository, training logs"
TGDP_PAPER = "TG-DP paper (CVPR 2026), second-hand"
LATER_PAPERS = "two later papers, second-hand"

# mAP on AudioSet trained with its 20 thousand balanced clips, mAP trained with all, and top-1 on VGGSound.
FINETUNED = {
    "both": (
        Published("CAV-MAE Scale+", (42.0, 51.2, 65.5), README_OF_CAVMAE),
        Published("CAV-MAE Scale++", (42.2, 51.05, 65.8), LOGS_OF_CAVMAE),
        Published("CAV-MAE, pretrained on VGGSound too", (None, None, 65.9), LOGS_OF_CAVMAE),
        Published("AVSiam, base", (41.6, 50.1, 64.9), "AVSiam repository"),
        Published("EquiAV", (None, 54.6, 67.1), "listings of the EquiAV paper, second-hand"),
    ),
    "audio": (
        Published("CAV-MAE", (37.7, 46.6, 59.5), README_OF_CAVMAE),
        Published("CAV-MAE", (38.3, 46.6, None), LOGS_OF_CAVMAE),
        Published("CAV-MAE, released weights", (None, None, 59.8), README_OF_CAVMAE),
    ),
    "image": (
        Published("CAV-MAE", (19.8, 26.2, 47.0), README_OF_CAVMAE),
        Published("CAV-MAE", (20.0, None, None), LOGS_OF_CAVMAE),
    ),
}
# The encoders frozen under an attention probe.
PROBED = {
    "both": (
        Published("CAV-MAE Sync", (30.5, None, 52.7), LATER_PAPERS),
        Published("TG-DP", (32.0, None, 52.7), TGDP_PAPER),
    ),
    "audio": (
        Published("CAV-MAE Sync", (29.3, None, None), TGDP_PAPER),
        Published("TG-DP", (31.2, None, None), TGDP_PAPER),
    ),
    "image": (
        Published("CAV-MAE Sync", (14.3, None, None), TGDP_PAPER),
        Published("TG-DP", (17.8, None, None), TGDP_PAPER),
    ),
}


def cells(published: Sequence[Published]) -> list[list[str]]:
    """Rows of a table: model, figures, source."""
    return [[one.model, *map(_figure, one.figures), one.source] for one in published]


def _figure(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f}"
