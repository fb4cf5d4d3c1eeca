"""The part of a report on heatmaps that says whether they follow their audio."""

from collections.abc import Iterable, Mapping

from cavsync.train.evaluation.heatmaps.negative_audio import NOISE_RMS, NUM_NOISES
from cavsync.train.evaluation.heatmaps.negative_figures import (
    SAME_MAP,
    NegativeAudioScores,
    NegativeFigures,
)
from cavsync.train.reporting.page import Score, Section, Table

# In % of the image: a threshold that lights more with the right sound chooses nothing.
USELESS_AREA = 90.0

Methods = Mapping[str, NegativeAudioScores]


def findings(methods: Methods) -> list[str]:
    """A sentence a method, for people."""
    return [_finding(method, scores) for method, scores in methods.items()]


def _finding(method: str, scores: NegativeAudioScores) -> str:
    return " ".join([_following(method, scores), *_of_threshold(scores)])


def _following(method: str, scores: NegativeAudioScores) -> str:
    if not scores.ignored:
        return (
            f"Maps of {method} change with their audio: those of {_listed(scores.negatives)} are lower than those of the right sound, or "
            "elsewhere."
        )
    basis = "; ".join(f"{name}: {_basis(scores.negatives[name])}" for name in scores.ignored)
    ignored = "its audio" if len(scores.ignored) == len(scores.negatives) else "some audio"
    return (
        f"{method} ignores {ignored}: its maps of {_listed(scores.ignored)} look like those of the right sound ({basis}). "
        "What it finds there does not come from the audio."
    )


def _of_threshold(scores: NegativeAudioScores) -> list[str]:
    if scores.right_area.value < USELESS_AREA:
        return []
    lit = f"{scores.right_area.value:.0f} % of them"
    return [
        f"It has no use for one threshold: the best one for all images lights {lit} with the right sound."
    ]


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _basis(figures: NegativeFigures) -> str:
    return f"correlation {figures.correlation.value:.2f}, lower in {figures.lower.value:.0f} % of the images"


def negative_rows(methods: Methods) -> list[Score]:
    return [row for method, scores in methods.items() for row in _method_rows(method, scores)]


def _method_rows(method: str, scores: NegativeAudioScores) -> list[Score]:
    rows = []
    for name, figures in scores.negatives.items():
        compared = "ignored: same maps" if name in scores.ignored else "than the right sound"
        rows += [
            Score(f"{method}: pIA, {name}", figures.area, "chance: right sound"),
            Score(f"{method}: {name} lower", figures.lower, compared),
        ]
    return [
        *rows,
        Score(f"{method}: F_LOC", scores.f_loc, "universal threshold"),
        Score(f"{method}: F_AUC", scores.f_auc, "universal threshold"),
    ]


def negative_section(methods: Methods) -> Section:
    text = (
        f"{' '.join(findings(methods))} Each image was also given audio that nothing in it makes: silence, white noise (RMS "
        f"{NOISE_RMS:g}, {NUM_NOISES} draws), and the right sound of another image, of another video and another class where "
        "classes are annotated. Maps keep their own scale, which is the same for all images. The positives' threshold is the one "
        "of 20 at which the right sounds have their greatest mean cIoU; what it lights with other audio is a false positive. pIA "
        "is the mean fraction of the image above a threshold. The universal threshold is the third quartile of the greatest "
        "values of the maps of all that audio; F_LOC is the harmonic mean of mean cIoU and 100 - pIA there, F_AUC that of the "
        "areas under both, after Juanola et al. (ICASSP 2025). A method ignores audio where its maps correlate with those of the "
        f"right sound ({SAME_MAP:g} or more, our limit) and are not clearly lower. In %, 95 % intervals in brackets; correlation "
        "is between -1 and 1."
    )
    tables = [_table_of_positives(methods), _table_of_universal(methods)]
    return Section("Audio that nothing in the image makes", text, tables=tables)


def _table_of_positives(methods: Methods) -> Table:
    """At the threshold of the right sounds, and what needs no threshold."""
    header = ["map", "audio", "images", "pIA", "images lit", "lower than right sound", "correlation"]
    rows = []
    for method, scores in methods.items():
        number = max(one.num_images for one in scores.negatives.values())
        rows.append([method, "right sound", str(number), scores.right_area.with_interval, "", "", ""])
        rows += [[method, name, *_cells(figures)] for name, figures in scores.negatives.items()]
    return Table(header, rows)


def _cells(figures: NegativeFigures) -> list[str]:
    return [
        str(figures.num_images),
        figures.area.with_interval,
        figures.lit.with_interval,
        figures.lower.with_interval,
        f"{figures.correlation.value:.2f}",
    ]


def _table_of_universal(methods: Methods) -> Table:
    header = ["map", "audio", "pIA, universal threshold", "cIoU there", "AUC, of negatives AUC_N"]
    rows = []
    for method, scores in methods.items():
        positives = [scores.universal_ciou.with_interval, scores.universal_auc.with_interval]
        rows.append([method, "right sound", "", *positives])
        rows += [
            [method, name, figures.universal_area.with_interval, "", figures.auc_n.with_interval]
            for name, figures in scores.negatives.items()
        ]
    return Table(header, rows)
