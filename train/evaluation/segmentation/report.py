"""The report on segmentation: map methods and baselines, example maps, classes and published figures."""

import numpy as np

from cavsync.train.evaluation.heatmaps.heatmap import upsampled
from cavsync.train.evaluation.heatmaps.negative_report import findings, negative_rows, negative_section
from cavsync.train.evaluation.heatmaps.plots import heatmap_set
from cavsync.train.evaluation.published import ADE20K_SOUND, cells
from cavsync.train.evaluation.segmentation.dataset import LIST_NAME
from cavsync.train.evaluation.segmentation.metrics import FIXED_THRESHOLD, NUM_THRESHOLDS
from cavsync.train.evaluation.segmentation.protocol import (
    CONSTANT,
    DISC,
    SALIENCY,
    SegmentationMethodScores,
    SegmentationScores,
)
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult

ROWS_SHOWN = 8


def segmentation_result(scores: SegmentationScores) -> EvaluationResult:
    return EvaluationResult(
        evaluation="segmentation",
        title="Audio-prompted segmentation",
        lead=f"{scores.data.root.name}, {num_classes(scores)} classes: {scores.coverage.sentence}.",
        scores=segmentation_rows(scores),
        sections=[
            methods_section(scores),
            *([negative_section(scores.negative_audio)] if scores.negative_audio else []),
            maps_section(scores),
            classes_section(scores),
            published_section(scores),
        ],
        facts=facts(scores),
        coverage=scores.coverage,
        items=[row.row.title for row in scores.rows],
        weights=scores.task.weights,
        data=scores.data.root,
        defined_by=scores.data.root / LIST_NAME,
        config={**scores.task.as_dict(), "scaling": scores.scaling, "fixed_threshold": FIXED_THRESHOLD},
        results={
            "num_rows_without_audio_prompt": scores.data.num_without_audio,
            "num_rows_outside_crop": scores.num_outside,
            "methods": scores.methods,
            "negative_audio": scores.negative_audio,
            "findings": findings(scores.negative_audio),
        },
    )


def segmentation_rows(scores: SegmentationScores) -> list[Score]:
    """The table: the figures of each map method, with those of the constant map as chance."""
    floor = scores.methods[CONSTANT].segmentation
    rows = [
        row
        for method in scores.task.methods
        for row in _method_rows(method, scores.methods[method], floor.ap.value, floor.iou.value)
    ]
    baselines = [(name, scores.methods[name].segmentation.ap) for name in (SALIENCY, DISC)]
    rows += [Score(f"{name}: mAP", ap.with_chance(floor.ap.value), "no model") for name, ap in baselines]
    return rows + negative_rows(scores.negative_audio)


def _method_rows(
    method: str, scores: SegmentationMethodScores, floor_ap: float, floor_iou: float
) -> list[Score]:
    result, choice = scores.segmentation, scores.selection
    inverted = result.ap.high is not None and result.ap.high < floor_ap
    rows = [
        Score(
            f"{method}: mAP", result.ap.with_chance(floor_ap), "inverted: low on objects" if inverted else ""
        ),
        Score(f"{method}: mIoU", result.iou.with_chance(floor_iou), f"best of {NUM_THRESHOLDS} thresholds"),
        Score(f"{method}: mIoU at {FIXED_THRESHOLD}", result.fixed_iou, "of the scaled map"),
    ]
    if choice:
        what = f"of {choice.num_rows} rows with 2+ objects"
        rows += [
            Score(f"{method}: prompted object first", choice.first, what),
            Score(f"{method}: maximum on it", choice.pointed, what),
        ]
    return rows


def methods_section(scores: SegmentationScores) -> Section:
    rows = [
        [name, *(f"{one.value:.1f}" for one in _figures(method))] for name, method in scores.methods.items()
    ]
    text = (
        "All maps on the same rows, in %. The last three do not use the audio: colour saliency is the distance from the "
        "image's median colour, the disc is higher towards the middle. A map that does not beat them has not shown that it "
        "depends on the audio. In images of one object saliency finds it without the audio; whether the audio selects its "
        "object is the column “object first”. A method that lies below the constant map is inverted: it is lowest where the "
        "audio comes from. denseav is the published method, masked-view is our own method."
    )
    header = ["map", "mAP", "mIoU", f"mIoU at {FIXED_THRESHOLD}", "object first", "maximum on it"]
    return Section("Maps with and without a model", text, tables=[Table(header, rows)])


def maps_section(scores: SegmentationScores) -> Section:
    drawn = np.random.default_rng(scores.task.seed).permutation(len(scores.rows))[:ROWS_SHOWN]
    sets = []
    for number in sorted(drawn.tolist()):
        row = scores.rows[number]
        shown = {name: upsampled(row.cells[name], len(row.ids)) for name in (*scores.task.methods, DISC)}
        sets.append(heatmap_set(row.image, row.truth, shown, row.row.title))
    text = (
        "Rows drawn at random. The white line is the mask of the prompted class; the caption names image, class and audio "
        "prompt. Colours run from the least value of each map (dark) to its greatest (yellow)."
    )
    return Section("Example maps", text, image_sets=sets)


def classes_section(scores: SegmentationScores) -> Section:
    tables = []
    for method in scores.task.methods:
        rows = [
            [one.name, str(one.num_rows), f"{one.area:.1f}", one.ap.with_interval, one.iou.with_interval]
            for one in scores.methods[method].segmentation.classes
        ]
        tables.append(Table([method, "rows", "constant AP", "AP", "IoU"], rows))
    undefined = scores.methods[CONSTANT].segmentation.undefined
    text = "Pixels of all rows of a class pooled; 95 % intervals in brackets, none for a class with one row; in %."
    if undefined:
        text += f" Without a pixel in any image, so without a score: {', '.join(undefined)}."
    return Section("By class", text, tables=tables)


def published_section(scores: SegmentationScores) -> Section:
    ours = [
        [
            f"this run, {method}",
            *(f"{one.value:.1f}" for one in _figures(scores.methods[method])[:2]),
            "computed here",
        ]
        for method in scores.task.methods
    ]
    table = Table(["model", "mAP", "mIoU", "source"], [*ours, *cells(ADE20K_SOUND)], note=True)
    text = (
        "Published figures are of the complete ADE20K_Sound; they compare with ours only on that same set, by the denseav "
        "method with its default options. CAV-MAE Sync's own evaluation code for it is not public."
    )
    return Section("Beside published figures", text, tables=[table])


def facts(scores: SegmentationScores) -> list[tuple[str, str]]:
    return [
        *scores.task.facts(),
        ("scaling of maps", scores.scaling),
        ("data", str(scores.data.root)),
        ("rows", scores.coverage.sentence),
        ("rows whose class lies outside the centre crop", str(scores.num_outside)),
        ("rows of the list without an audio prompt", str(scores.data.num_without_audio)),
    ]


def num_classes(scores: SegmentationScores) -> int:
    return len(scores.methods[CONSTANT].segmentation.classes)


def _figures(method: SegmentationMethodScores) -> list[Estimate]:
    result, choice = method.segmentation, method.selection
    return [result.ap, result.iou, result.fixed_iou, *([choice.first, choice.pointed] if choice else [])]
