"""What `cavsync eval localization` writes: report.json and a page with maps to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cavsync.train.evaluation.heatmaps.plots import heat_row
from cavsync.train.evaluation.localization.protocol import (
    DISC,
    LocalizationScores,
    MethodScores,
)
from cavsync.train.evaluation.published import (
    EXTENDED_FLICKR,
    EXTENDED_VGGSS,
    FLICKR,
    VGGSS,
    Published,
    cells,
)
from cavsync.train.reporting.page import (
    Picture,
    Report,
    Score,
    Section,
    Table,
    unusable_sections,
    write_report,
)
from cavsync.train.reporting.record import Record, make_record, write_record

NAMES = {"vggss": "VGG-SS", "flickr": "Flickr-SoundNet"}
NO_FIGURE = ""


def write_localization(scores: LocalizationScores, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    report = Report(
        title=f"Sound source localisation on {NAMES[scores.data.benchmark]}",
        lead=f"{scores.coverage.sentence} scored, {scores.num_negatives} of them non-sounding.",
        scores=localization_rows(scores),
        sections=[
            references_section(scores),
            maps_section(scores),
            published_section(scores),
            *unusable_sections(scores.coverage),
        ],
        facts=facts(scores),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(scores), out)


def as_record(scores: LocalizationScores) -> Record:
    return make_record(
        "localization",
        scores=localization_rows(scores),
        coverage=scores.coverage,
        items=scores.coverage.scored(row.title for row in scores.data.rows),
        weights=scores.task.weights,
        data=scores.data.root,
        defined_by=scores.data.source,
        config={
            **scores.task.as_dict(),
            "benchmark": scores.data.benchmark,
            "geometry": scores.geometry,
        },
        results={
            "num_negatives": scores.num_negatives,
            "num_ids_without_annotation": scores.data.num_unlisted,
            "dirty_annotations": scores.dirt,
            "methods": scores.methods,
        },
    )


def localization_rows(scores: LocalizationScores) -> list[Score]:
    """The table: each route's figures, the centred disc's beside them as chance."""
    floor = scores.methods[DISC]
    assert floor.adaptive is not None
    rows = []
    for route in scores.task.routes:
        method = scores.methods[route]
        assert method.adaptive is not None
        at_half, fitted = method.published, method.adaptive
        rows += [
            _score(
                f"{route}: cIoU",
                at_half.ciou.percent,
                floor.published.ciou.percent,
                "chance: a centred disc",
                at_half,
            ),
            Score(f"{route}: AUC", at_half.auc, floor.published.auc),
            _score(
                f"{route}: cIoU adaptive",
                fitted.ciou.percent,
                floor.adaptive.ciou.percent,
                "area of the boxes",
                fitted,
            ),
            Score(f"{route}: AUC adaptive", fitted.auc, floor.adaptive.auc),
            *_every_source(route, scores),
        ]
        if method.detection:
            rows += [
                Score(f"{route}: AP", method.detection.ap, None, note="with non-sounding rows"),
                Score(f"{route}: max F1", method.detection.max_f1, None, note="with non-sounding rows"),
            ]
    return rows


def _every_source(route: str, scores: LocalizationScores) -> Sequence[Score]:
    """IIoU, where any picture has more than one sound; elsewhere it is the cIoU."""
    sounding = [row.image for row in scores.data.rows if row.boxes]
    if len(set(sounding)) == len(sounding):
        return []
    figure = scores.methods[route].published.every_source
    return [
        Score(f"{route}: IIoU", figure.percent, None, figure.low, figure.high, "every sound of a picture")
    ]


def references_section(scores: LocalizationScores) -> Section:
    rows = [[name, *_cells(method)] for name, method in scores.methods.items()]
    text = (
        "All on the same rows, in %. The published rule always predicts half of the pixels, however small the thing: on all "
        "of VGG-SS a perfect map gets 50.5 and a disc in the middle, which hears and sees nothing, 34.0. The adaptive score "
        "predicts as many pixels as the boxes cover. AP and max F1 count a sounding row as found by the published rule."
    )
    header = ["map", "cIoU", "AUC", "mean cIoU", "cIoU adaptive", "AUC adaptive", "AP", "max F1"]
    return Section("With and without a model", text, tables=[Table(header, rows)])


def maps_section(scores: LocalizationScores) -> Section:
    pictures = []
    for example in scores.examples:
        maps = {f"{route}, cIoU {example.cious[route]:.2f}": heat for route, heat in example.maps.items()}
        caption = f"{example.row.title} · {example.row.label}".rstrip(" ·")
        pictures.append(Picture(heat_row(example.picture, example.truth, maps), caption))
    return Section(
        "What the maps look like",
        "Rows drawn at random. The white line is around the boxes; colours run from the least value of each map (dark) to "
        "its greatest (yellow).",
        pictures=pictures,
    )


def published_section(scores: LocalizationScores) -> Section:
    vggss = scores.data.benchmark == "vggss"
    tables = [_beside(scores, ["cIoU", "AUC"], VGGSS if vggss else FLICKR)]
    if scores.num_negatives:
        tables.append(_beside(scores, ["AP", "max F1", "cIoU"], EXTENDED_VGGSS if vggss else EXTENDED_FLICKR))
    text = (
        f"Comparable only on the complete list ({scores.coverage.sentence} here) and with the same picture geometry "
        f"({scores.geometry} here; LVS crops, the others squeeze). The boxes of VGG-SS were revised after the first papers, "
        "which moves figures by 2 to 3 points. Methods that predict fewer pixels than half can exceed the perfect map's row."
    )
    return Section("Beside published figures", text, tables=tables)


def _beside(scores: LocalizationScores, names: list[str], published: Sequence[Published]) -> Table:
    ours = []
    for route in scores.task.routes:
        method = scores.methods[route]
        figures = {"cIoU": method.published.ciou.percent, "AUC": method.published.auc}
        if method.detection:
            figures |= {"AP": method.detection.ap, "max F1": method.detection.max_f1}
        ours.append([f"this run, {route}", *(f"{figures[name]:.1f}" for name in names), "computed here"])
    return Table(["model", *names, "source"], [*ours, *cells(published)], note=True)


def facts(scores: LocalizationScores) -> list[tuple[str, str]]:
    return [
        *scores.task.facts(),
        ("picture geometry", scores.geometry),
        ("data", str(scores.data.root)),
        ("rows", scores.coverage.sentence),
        ("ids of the subset without annotation", str(scores.data.num_unlisted)),
        *((name, str(count)) for name, count in scores.dirt.items()),
    ]


def _cells(method: MethodScores) -> list[str]:
    half, fitted, found = method.published, method.adaptive, method.detection
    figures = [
        *(half.ciou.percent, half.auc, half.mean_ciou),
        *((fitted.ciou.percent, fitted.auc) if fitted else (None, None)),
        *((found.ap, found.max_f1) if found else (None, None)),
    ]
    return [NO_FIGURE if figure is None else f"{figure:.1f}" for figure in figures]


def _score(name: str, percent: float, chance: float, note: str, result: Any) -> Score:
    return Score(name, percent, chance, result.ciou.low, result.ciou.high, note)
