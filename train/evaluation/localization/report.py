"""The report on localisation: map methods beside maps that need no model, examples and published figures."""

from collections.abc import Sequence

from cavsync.train.evaluation.heatmaps.negative_report import findings, negative_rows, negative_section
from cavsync.train.evaluation.heatmaps.plots import heatmap_set
from cavsync.train.evaluation.localization.protocol import (
    DISC,
    LocalizationMethodScores,
    LocalizationScores,
)
from cavsync.train.evaluation.published import (
    EXTENDED_FLICKR,
    EXTENDED_VGGSS,
    FLICKR,
    VGGSS,
    Published,
    cells,
)
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult

NAMES = {"vggss": "VGG-SS", "flickr": "Flickr-SoundNet"}


def localization_result(scores: LocalizationScores) -> EvaluationResult:
    return EvaluationResult(
        evaluation="localization",
        title=f"Sound source localisation on {NAMES[scores.data.benchmark]}",
        lead=f"{scores.coverage.sentence}. {scores.num_negatives} of the scored rows are non-sounding.",
        scores=localization_rows(scores),
        sections=[
            references_section(scores),
            negative_section(scores.negative_audio),
            maps_section(scores),
            published_section(scores),
        ],
        facts=facts(scores),
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
            "annotation_issues": scores.annotation_issues,
            "methods": scores.methods,
            "negative_audio": scores.negative_audio,
            "findings": findings(scores.negative_audio),
        },
    )


def localization_rows(scores: LocalizationScores) -> list[Score]:
    """The table: the figures of each map method, with those of the centred disc as chance."""
    rows = []
    for method in scores.task.methods:
        rows += [*_method_rows(method, scores), *_every_source(method, scores)]
        detection = scores.methods[method].detection
        if detection:
            rows += [
                Score(f"{method}: AP", Estimate(detection.ap), "with non-sounding rows"),
                Score(f"{method}: max F1", Estimate(detection.max_f1), "with non-sounding rows"),
            ]
    return rows + negative_rows(scores.negative_audio)


def _method_rows(method: str, scores: LocalizationScores) -> list[Score]:
    of_method, of_disc = scores.methods[method], scores.methods[DISC]
    half, adaptive = of_method.published, of_method.adaptive
    floor, adaptive_floor = of_disc.published, of_disc.adaptive
    assert adaptive is not None
    assert adaptive_floor is not None
    return [
        Score(f"{method}: cIoU", half.ciou.with_chance(floor.ciou.value), "chance: a centred disc"),
        Score(f"{method}: AUC", Estimate(half.auc, chance=floor.auc)),
        Score(
            f"{method}: cIoU adaptive",
            adaptive.ciou.with_chance(adaptive_floor.ciou.value),
            "area of the boxes",
        ),
        Score(f"{method}: AUC adaptive", Estimate(adaptive.auc, chance=adaptive_floor.auc)),
    ]


def _every_source(method: str, scores: LocalizationScores) -> Sequence[Score]:
    """IIoU, where any image has more than one audio source; elsewhere it is the cIoU."""
    sounding = [row.image for row in scores.data.rows if row.boxes]
    if len(set(sounding)) == len(sounding):
        return []
    figure = scores.methods[method].published.every_source
    return [Score(f"{method}: IIoU", figure, "every audio source of an image")]


def references_section(scores: LocalizationScores) -> Section:
    rows = [[name, *_cells(method)] for name, method in scores.methods.items()]
    text = (
        "All on the same rows, in %. The published rule always predicts half of the pixels, however small the object: on all "
        "of VGG-SS a perfect map gets 50.5 and a disc in the middle, which uses neither audio nor image, 34.0. The adaptive "
        "score predicts as many pixels as the boxes cover. AP and max F1 count a sounding row as found by the published rule."
    )
    header = ["map", "cIoU", "AUC", "mean cIoU", "cIoU adaptive", "AUC adaptive", "AP", "max F1"]
    return Section("With and without a model", text, tables=[Table(header, rows)])


def maps_section(scores: LocalizationScores) -> Section:
    sets = []
    for example in scores.examples:
        maps = {f"{method}, cIoU {example.cious[method]:.2f}": one for method, one in example.maps.items()}
        caption = f"{example.row.title} · {example.row.label}".rstrip(" ·")
        sets.append(heatmap_set(example.image, example.truth, maps, caption))
    return Section(
        "Example maps",
        "Rows drawn at random. The white line is around the boxes; colours run from the least value of each map (dark) to "
        "its greatest (yellow).",
        image_sets=sets,
    )


def published_section(scores: LocalizationScores) -> Section:
    vggss = scores.data.benchmark == "vggss"
    tables = [_beside(scores, ["cIoU", "AUC"], VGGSS if vggss else FLICKR)]
    if scores.num_negatives:
        tables.append(_beside(scores, ["AP", "max F1", "cIoU"], EXTENDED_VGGSS if vggss else EXTENDED_FLICKR))
    text = (
        f"Comparable only on the complete list ({scores.coverage.sentence} here) and with the same image geometry "
        f"({scores.geometry} here; LVS crops, the others squeeze). The boxes of VGG-SS were revised after the first papers, "
        "which moves figures by 2 to 3 points. Methods that predict fewer pixels than half can exceed the perfect map's row."
    )
    return Section("Beside published figures", text, tables=tables)


def _beside(scores: LocalizationScores, names: list[str], published: Sequence[Published]) -> Table:
    ours = []
    for name_of_method in scores.task.methods:
        method = scores.methods[name_of_method]
        figures = {"cIoU": method.published.ciou.value, "AUC": method.published.auc}
        if method.detection:
            figures |= {"AP": method.detection.ap, "max F1": method.detection.max_f1}
        ours.append(
            [f"this run, {name_of_method}", *(f"{figures[name]:.1f}" for name in names), "computed here"]
        )
    return Table(["model", *names, "source"], [*ours, *cells(published)], note=True)


def facts(scores: LocalizationScores) -> list[tuple[str, str]]:
    return [
        *scores.task.facts(),
        ("image geometry", scores.geometry),
        ("data", str(scores.data.root)),
        ("rows", scores.coverage.sentence),
        ("ids of the subset without annotation", str(scores.data.num_unlisted)),
        *((name, str(count)) for name, count in scores.annotation_issues.items()),
    ]


def _cells(method: LocalizationMethodScores) -> list[str]:
    half, fitted, detection = method.published, method.adaptive, method.detection
    figures = [
        *(half.ciou.value, half.auc, half.mean_ciou),
        *((fitted.ciou.value, fitted.auc) if fitted else (None, None)),
        *((detection.ap, detection.max_f1) if detection else (None, None)),
    ]
    return ["" if figure is None else f"{figure:.1f}" for figure in figures]
