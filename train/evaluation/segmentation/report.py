"""What `cavsync eval segmentation` writes: report.json and a page with maps to look at."""

from pathlib import Path

import numpy as np

from cavsync.train.evaluation.heatmaps.heatmap import upsampled
from cavsync.train.evaluation.heatmaps.plots import heat_row
from cavsync.train.evaluation.published import ADE20K_SOUND, cells
from cavsync.train.evaluation.segmentation.dataset import LIST_NAME
from cavsync.train.evaluation.segmentation.metrics import FIXED_THRESHOLD, NUM_THRESHOLDS
from cavsync.train.evaluation.segmentation.protocol import (
    CONSTANT,
    DISC,
    SALIENCY,
    MethodScores,
    SegmentationScores,
)
from cavsync.train.evaluation.statistics import Figure
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

ROWS_SHOWN = 8


def write_segmentation(scores: SegmentationScores, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    report = Report(
        title="Sound-prompted segmentation",
        lead=f"{scores.coverage.sentence} of {scores.data.root.name}, {num_classes(scores)} classes.",
        scores=segmentation_rows(scores),
        sections=[
            methods_section(scores),
            maps_section(scores),
            classes_section(scores),
            published_section(scores),
            *unusable_sections(scores.coverage),
        ],
        facts=facts(scores),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(scores), out)


def as_record(scores: SegmentationScores) -> Record:
    return make_record(
        "segmentation",
        scores=segmentation_rows(scores),
        coverage=scores.coverage,
        items=[row.row.title for row in scores.rows],
        weights=scores.task.weights,
        data=scores.data.root,
        defined_by=scores.data.root / LIST_NAME,
        config={**scores.task.as_dict(), "scaling": scores.scaling, "fixed_threshold": FIXED_THRESHOLD},
        results={
            "num_rows_without_sound_prompt": scores.data.num_without_sound,
            "num_rows_outside_crop": scores.num_outside,
            "methods": scores.methods,
        },
    )


def segmentation_rows(scores: SegmentationScores) -> list[Score]:
    """The table: each route's figures, the constant map's beside them as chance."""
    floor = scores.methods[CONSTANT].segmentation
    rows = [
        row
        for route in scores.task.routes
        for row in _route_rows(route, scores.methods[route], floor.ap.percent, floor.iou.percent)
    ]
    without = [(name, scores.methods[name].segmentation.ap) for name in (SALIENCY, DISC)]
    return rows + [_score(f"{name}: mAP", ap, floor.ap.percent, "no model") for name, ap in without]


def _route_rows(route: str, method: MethodScores, floor_ap: float, floor_iou: float) -> list[Score]:
    result, choice = method.segmentation, method.selection
    rows = [
        _score(f"{route}: mAP", result.ap, floor_ap, "inverted!" if result.ap.high < floor_ap else ""),
        _score(f"{route}: mIoU", result.iou, floor_iou, f"best of {NUM_THRESHOLDS} thresholds"),
        _score(f"{route}: mIoU at {FIXED_THRESHOLD}", result.fixed_iou, None, "of the scaled map"),
    ]
    if choice:
        what = f"of {choice.num_rows} rows with 2+ objects"
        rows += [
            _score(f"{route}: prompted object first", choice.first, choice.first_chance, what),
            _score(f"{route}: maximum on it", choice.pointed, choice.pointed_chance, what),
        ]
    return rows


def methods_section(scores: SegmentationScores) -> Section:
    rows = [
        [name, *(f"{one.percent:.1f}" for one in _figures(method))] for name, method in scores.methods.items()
    ]
    text = (
        "All maps on the same rows, in %. The last three hear nothing: colour saliency is the distance from the "
        "picture's median colour, the disc is hotter towards the middle. A map that does not beat them has not shown that it "
        "listens. In pictures of one object saliency finds it without the sound; whether the sound chooses its object is "
        "the column “object first”. A route that lies below the constant map is inverted: it is coldest where the "
        "sound comes from. denseav is the published route, masked-view is our own method."
    )
    header = ["map", "mAP", "mIoU", f"mIoU at {FIXED_THRESHOLD}", "object first", "maximum on it"]
    return Section("Maps with and without a model", text, tables=[Table(header, rows)])


def maps_section(scores: SegmentationScores) -> Section:
    drawn = np.random.default_rng(scores.task.seed).permutation(len(scores.rows))[:ROWS_SHOWN]
    pictures = []
    for number in sorted(drawn.tolist()):
        row = scores.rows[number]
        shown = {name: upsampled(row.cells[name], len(row.ids)) for name in (*scores.task.routes, DISC)}
        pictures.append(Picture(heat_row(row.picture, row.truth, shown), row.row.title))
    text = (
        "Rows drawn at random. The white line is the mask of the prompted class; the caption names picture, class and the "
        "sound that was played. Colours run from the least value of each map (dark) to its greatest (yellow)."
    )
    return Section("What the maps look like", text, pictures=pictures)


def classes_section(scores: SegmentationScores) -> Section:
    tables = []
    for route in scores.task.routes:
        rows = [
            [one.name, str(one.num_rows), f"{one.area:.1f}", _with_interval(one.ap), _with_interval(one.iou)]
            for one in scores.methods[route].segmentation.classes
        ]
        tables.append(Table([route, "rows", "constant AP", "AP", "IoU"], rows))
    undefined = scores.methods[CONSTANT].segmentation.undefined
    text = "Pixels of all rows of a class pooled; 95 % intervals from resampled rows, in %."
    if undefined:
        text += f" Without a pixel in any picture, so without a score: {', '.join(undefined)}."
    return Section("By class", text, tables=tables)


def published_section(scores: SegmentationScores) -> Section:
    ours = [
        [
            f"this run, {route}",
            *(f"{one.percent:.1f}" for one in _figures(scores.methods[route])[:2]),
            "computed here",
        ]
        for route in scores.task.routes
    ]
    table = Table(["model", "mAP", "mIoU", "source"], [*ours, *cells(ADE20K_SOUND)], note=True)
    text = (
        "Published figures are of the complete ADE20K_Sound; they compare with ours only on that same set, by the denseav "
        "route with its default options. CAV-MAE Sync's own evaluation code for it is not public."
    )
    return Section("Beside published figures", text, tables=[table])


def facts(scores: SegmentationScores) -> list[tuple[str, str]]:
    return [
        *scores.task.facts(),
        ("scaling of maps", scores.scaling),
        ("data", str(scores.data.root)),
        ("rows", scores.coverage.sentence),
        ("rows whose class lies outside the centre crop", str(scores.num_outside)),
        ("rows of the list that hold no sound prompt", str(scores.data.num_without_sound)),
    ]


def num_classes(scores: SegmentationScores) -> int:
    return len(scores.methods[CONSTANT].segmentation.classes)


def _figures(method: MethodScores) -> list[Figure]:
    result, choice = method.segmentation, method.selection
    return [result.ap, result.iou, result.fixed_iou, *([choice.first, choice.pointed] if choice else [])]


def _score(name: str, figure: Figure, chance: float | None, note: str) -> Score:
    return Score(name, figure.percent, chance, figure.low, figure.high, note)


def _with_interval(figure: Figure) -> str:
    return f"{figure.percent:.1f} ({figure.low:.1f} to {figure.high:.1f})"
