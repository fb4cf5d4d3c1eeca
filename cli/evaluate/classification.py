"""`cavsync eval classification`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.model_options import ModelOptions, PrecisionOption
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.evaluate.options import DatasetOption, MaxMissingOption, report_option
from cavsync.cli.evaluate.output import publish
from cavsync.model.classifier_config import Modality
from cavsync.train.choices import LabelTask

if TYPE_CHECKING:
    from cavsync.train.data.run import ChosenCheckpoint
    from cavsync.train.embedding.windows.window_file import WindowFile

MAX_CLASSES_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class ClassifierModelOptions(ModelOptions):
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Run folder or file of weights of a classifier.",
            show_default="the newest run of a classifier under ROOT/runs",
        ),
    ] = None
    # What bfloat16 does to the figures of classes was not measured.
    precision: PrecisionOption = "float32"

    def chosen(self, embedded: "WindowFile | None") -> "ChosenCheckpoint":
        from cavsync.train.data.run import newest_checkpoint

        return newest_checkpoint(self.root / "runs", classifier=True)


@with_options
def classification(
    model: ClassifierModelOptions,
    data: DatasetOption = None,
    split: Annotated[
        str, typer.Option(help="Split of the dataset: train, test, or the name of one.")
    ] = "test",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the columns index,mid,display_name: the order of the classes of a published file.",
            show_default=False,
        ),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option(help="Inputs: audio, image or both.", show_default="those of the classifier"),
    ] = None,
    task: Annotated[
        LabelTask | None,
        typer.Option(
            help="Whether a clip has one class (softmax) or any number of classes (a sigmoid for each).",
            show_default="as trained, else by the labels of the clips",
        ),
    ] = None,
    vggsounder: Annotated[
        Path | None,
        typer.Option(
            help="VGGSounder's CSV file: several labels for a clip, each audible, visible or both.",
            show_default=False,
        ),
    ] = None,
    max_missing: MaxMissingOption = 0.5,
    out: Annotated[Path | None, report_option("classification-SPLIT beside the weights")] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify each clip of a split from all of its frames and their audio segments, and score the classes."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.classification.protocol import (
        ClassificationTask,
        modality_of,
        open_classifier,
        score_classification,
    )
    from cavsync.train.evaluation.classification.report import classification_result
    from cavsync.train.evaluation.task import SplitTask
    from cavsync.train.reporting.record import PAGE_NAME

    fields = model.fields() | ({} if modality is None else {"modality": modality})
    classifier = open_classifier(model.weights(), fields, model.device, model.precision)
    requested = ClassificationTask(
        split=SplitTask.of(classifier, data, split),
        label_list=labels,
        task=task,
        vggsounder=vggsounder,
        max_missing=max_missing,
    )
    inputs = command_inputs(
        "eval classification",
        classifier,
        requested.split.data.one_path,
        requested.split.dataset.paths.summary,
        modality=modality_of(classifier),
    )
    folder = results_folder(out, classifier.weights.parent / f"classification-{split}", PAGE_NAME, inputs)
    with counting("classifying", "clips", quiet=as_json) as on_clip:
        scores = score_classification(requested, on_clip)
    result = classification_result(scores)
    title, notes = f"Classification: {scores.coverage.sentence}", _left_out(scores.figures.without_positives)
    publish(result, folder, inputs, title, as_json=as_json, notes=notes)


def _left_out(classes: Sequence[str]) -> list[str]:
    """A line on the classes that no clip has, if there are any."""
    if not classes:
        return []
    more = f" and {len(classes) - MAX_CLASSES_NAMED} more" if len(classes) > MAX_CLASSES_NAMED else ""
    return [f"Not in the means, because no clip has them: {', '.join(classes[:MAX_CLASSES_NAMED])}{more}"]
