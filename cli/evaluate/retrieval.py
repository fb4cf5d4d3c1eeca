"""`cavsync eval retrieval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import JsonOption, with_options
from cavsync.cli.console.results import command_inputs, results_folder
from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import DatasetOption, MaxMissingOption, report_option
from cavsync.train.choices import Aggregation

if TYPE_CHECKING:
    from cavsync.train.evaluation.retrieval.protocol import GalleryEmbeddings, RetrievalConfig
    from cavsync.train.reporting.inputs import ResultInputs


@with_options
def retrieval(
    model: ModelOptions,
    data: DatasetOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the dataset: train, test, the name of one, or all; --gallery selects among its clips.",
            show_default="test",
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="List of the clips to retrieve among: CAV-MAE's JSON file, or any CSV, txt, JSON or Parquet file of ids.",
            show_default="all clips of the split",
        ),
    ] = None,
    max_missing: MaxMissingOption = 0.5,
    aggregation: Annotated[
        Aggregation,
        typer.Option(
            help="How the similarities of all frames and audio segments of two clips become one, in the table; "
            "report.json holds all four."
        ),
    ] = "diagonal-mean",
    trained_on: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Dataset that the model was trained on; the report says which of its videos are among the clips.",
            show_default="the one that the run names",
        ),
    ] = None,
    duplicates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="pairs.parquet of `cavsync data duplicates`; the report says which clips are copies of training clips under another id.",
            show_default="the one in the dataset's folder",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score the embeddings of any model, in a Parquet file (docs/evaluating.md), instead of a checkpoint.",
            show_default=False,
        ),
    ] = None,
    save_embeddings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the embeddings to such a file.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        report_option(
            "retrieval-SPLIT or retrieval-GALLERY beside the weights, or retrieval-FILE beside the embeddings"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Retrieve each clip's video by its audio, and its audio by its video, among the clips of a split or a gallery."""
    excluded = {
        "--checkpoint": model.checkpoint,
        "--set": model.overrides,
        "--split": split,
        "--save-embeddings": save_embeddings,
    }
    given = [name for name, value in excluded.items() if value]
    if embeddings and given:
        raise typer.BadParameter(
            f"{given[0]} and --embeddings exclude each other: the file holds its clips and needs no model."
        )
    from cavsync.cli.console.progress import counting
    from cavsync.train.engine.device import choose_device
    from cavsync.train.evaluation.retrieval.protocol import RetrievalConfig, score_retrieval
    from cavsync.train.evaluation.retrieval.report import (
        contamination_section,
        gallery_name,
        write_retrieval,
    )
    from cavsync.train.evaluation.retrieval.tables import retrieval_rows
    from cavsync.train.evaluation.tracked import track_report

    config = RetrievalConfig(
        primary_aggregation=aggregation,
        gallery=gallery,
        max_missing=max_missing,
        trained_on=trained_on,
        duplicates=duplicates,
    )
    if embeddings:
        embedded, folder, inputs = _read(embeddings, config, data, out)
    else:
        embedded, folder, inputs = _embed(model, data, split or "test", config, save_embeddings, out, as_json)
    with counting("scoring", "tiles", quiet=as_json) as on_tile:
        scores = score_retrieval(embedded, choose_device(model.device), on_tile)
    title = (
        f"Retrieval, {gallery_name(scores)}: {scores.coverage.sentence} ({scores.config.primary_aggregation})"
    )
    record = write_retrieval(scores, folder, inputs)
    track_report(record, folder.name)
    trained = contamination_section(scores)
    notes = [f"{trained.title}: {trained.text}"]
    print_report(title, retrieval_rows(scores.primary), record, folder, as_json=as_json, notes=notes)


def _read(
    embeddings: Path, config: "RetrievalConfig", data: Path | None, out: Path | None
) -> "tuple[GalleryEmbeddings, Path, ResultInputs]":
    """The embeddings of a file, the folder of the report, and what it is made from."""
    from cavsync.pipeline.dataset.paths import DatasetPaths
    from cavsync.train.evaluation.retrieval.gallery_embeddings import read_gallery
    from cavsync.train.reporting.record import PAGE_NAME

    inputs = command_inputs("eval retrieval", None, data, data and DatasetPaths(data).summary)
    default = embeddings.parent / f"retrieval-{(config.gallery or embeddings).stem}"
    folder = results_folder(out, default, PAGE_NAME, inputs)
    return read_gallery(embeddings, config, data), folder, inputs


def _embed(
    model: ModelOptions,
    data: Path | None,
    split: str,
    config: "RetrievalConfig",
    save: Path | None,
    out: Path | None,
    as_json: bool,
) -> "tuple[GalleryEmbeddings, Path, ResultInputs]":
    """The embeddings of a split, which `save` gets too, the folder of the report, and what it is made from."""
    from cavsync.cli.console.progress import counting
    from cavsync.train.evaluation.retrieval.gallery_embeddings import (
        embed_gallery,
        require_own_embeddings,
        save_gallery,
    )
    from cavsync.train.evaluation.task import SplitTask
    from cavsync.train.reporting.record import PAGE_NAME

    task = SplitTask.of(model.load(), data, split)
    path, summary = task.data.one_path, task.dataset.paths.summary
    inputs = command_inputs("eval retrieval", task.checkpoint, path, summary, split=task.data.split)
    default = task.weights.parent / f"retrieval-{config.gallery.stem if config.gallery else task.data.split}"
    folder = results_folder(out, default, PAGE_NAME, inputs)
    if save:
        require_own_embeddings(save, task, config)
    with counting("embedding", "clips", quiet=as_json) as on_clip:
        embedded = embed_gallery(task, config, on_clip)
    if save:
        save_gallery(embedded, save)
    return embedded, folder, inputs
