"""`cavsync eval classification`."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cavsync.cli.console.overrides import OverridesOption, given_fields
from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import DeviceOption, JsonOption, RootOption

CLASSES_NAMED = 5


class Modality(StrEnum):
    BOTH = "both"
    AUDIO = "audio"
    IMAGE = "image"


class Answers(StrEnum):
    """What a clip can be: of one class (softmax), or of several (a sigmoid each)."""

    SINGLE_LABEL = "single-label"
    MULTI_LABEL = "multi-label"


def classification(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Run folder or weights of a classifier; by default the newest such run under ROOT/runs.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared dataset; by default the one the run was trained on.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Role (train, test) or name of a split.")] = "test",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV with index,mid,display_name: the order of the classes of a published file.",
            show_default=False,
        ),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option(help="What is heard and seen.", show_default="what the classifier was made for"),
    ] = None,
    task: Annotated[
        Answers | None,
        typer.Option(
            help="Classes exclude each other, or not.", show_default="as trained, else as the labels tell"
        ),
    ] = None,
    vggsounder: Annotated[
        Path | None,
        typer.Option(help="VGGSounder's CSV: several labels a clip, heard or seen.", show_default=False),
    ] = None,
    overrides: OverridesOption = None,
    max_missing: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the listed clips that may be left out; more is an error."),
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default classification-SPLIT beside the weights.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Name the classes of each clip of a split, from all of its frames and their sound."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.evaluation.classification.protocol import (
        ClassificationTask,
        open_classifier,
        score_classification,
    )
    from cavsync.train.evaluation.classification.report import (
        classification_rows,
        write_classification,
    )
    from cavsync.train.evaluation.task import SplitTask

    weights = checkpoint or newest_run(root / "runs", classifier=True)
    classifier = open_classifier(weights, _fields(overrides, modality), device)
    asked = ClassificationTask(
        split=SplitTask.of(classifier, data, split),
        label_list=labels,
        task=None if task is None else task.value,
        vggsounder=vggsounder,
        max_missing=max_missing,
    )
    with counting("classifying", "clips", quiet=as_json) as on_clip:
        scores = score_classification(asked, on_clip)
    folder = out or classifier.weights.parent / f"classification-{split}"
    record = write_classification(scores, folder)
    title, notes = f"Classification: {scores.coverage.sentence}", _left_out(scores.figures.without_positives)
    print_report(title, classification_rows(scores), record, folder, as_json=as_json, notes=notes)


def _fields(overrides: list[str] | None, modality: Modality | None) -> dict[str, Any]:
    """What --set and --modality say of the model; an unknown field is wrong usage."""
    from cavsync.model.checkpoints.checkpoint import require_fields

    fields = given_fields(overrides) | ({} if modality is None else {"modality": modality.value})
    try:
        require_fields(fields)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    return fields


def _left_out(classes: Sequence[str]) -> list[str]:
    """A line on the classes that no clip has, if there are any."""
    if not classes:
        return []
    more = f" and {len(classes) - CLASSES_NAMED} more" if len(classes) > CLASSES_NAMED else ""
    return [f"In no mean, as no clip has them: {', '.join(classes[:CLASSES_NAMED])}{more}"]
