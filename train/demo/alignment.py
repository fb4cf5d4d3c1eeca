"""The figure of the study `alignment` on the demo's page: aligned beside whole-clip audio, as measured once.

The study trains 25 models, three times as long as the demo takes.
"""

from collections.abc import Mapping
from types import MappingProxyType

from matplotlib.figure import Figure

from cavsync.train.reporting.images import png
from cavsync.train.reporting.page import CaptionedImage, Section

CHANCE = 0.8
# Retrieval R@1 of seeds 0 to 4 in %, from the table of docs/studies.md.
MEASURED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "aligned, .96 s": (27.0, 10.5, 12.5, 20.3, 24.6),
        "whole-clip, 10.24 s, equal steps": (0.4, 0.4, 0.8, 1.2, 1.2),
        "whole-clip, equal compute": (1.2, 0.8, 1.2, 1.2, 1.2),
        "control: shuffled segments": (0.4, 0.4, 0.8, 0.8, 0.0),
        "control: another clip's audio": (0.8, 0.8, 0.0, 1.2, 0.8),
    }
)


def alignment_section() -> Section:
    return Section(
        "What alignment teaches: measured once, not by this demo",
        "The study alignment on this world: five seeds of a smaller model than the demo's, trained for 300 steps on 32 clips each. Aligned "
        "audio is learnt sooner; whether whole-clip audio would stay behind with many more steps was not shown. The table, its intervals and "
        "what it does not show are in docs/studies.md, section Measured; cavsync study run alignment --data DATA measures it again.",
        images=[
            CaptionedImage(
                _figure(), "retrieval R@1 of each seed, in %; the bars are means, the line is chance"
            )
        ],
    )


def _figure() -> bytes:
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    axes = figure.subplots()
    for row, values in enumerate(MEASURED.values()):
        axes.barh(row, sum(values) / len(values), color="#9db4c0")
        axes.plot(values, [row] * len(values), "o", color="#d1495b", markersize=4)
    axes.axvline(CHANCE, color="grey", linestyle=":")
    axes.set_yticks(range(len(MEASURED)), [*MEASURED])
    axes.invert_yaxis()
    axes.set_xlabel("retrieval R@1, %")
    return png(figure)
