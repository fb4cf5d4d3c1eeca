"""`cavsync eval retrieval`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cavsync.cli.console.score_table import print_report
from cavsync.cli.evaluate.options import CheckpointOption, DeviceOption, JsonOption, RootOption


class Aggregation(StrEnum):
    """How the 16 x 16 scores of two clips become one."""

    DIAGONAL_MEAN = "diagonal-mean"
    DIAGONAL_MAX = "diagonal-max"
    MEAN = "mean"
    MAX = "max"


def retrieval(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared dataset; by default the one the run was trained on.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Role (train, test), name of a split, or all; --gallery chooses among its clips.",
            show_default="test",
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="List of the clips to retrieve among: CAV-MAE's JSON, or any CSV, txt, JSON or Parquet of ids; "
            "by default all of the split.",
            show_default=False,
        ),
    ] = None,
    max_missing: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the listed clips that may be left out; more is an error."),
    ] = 0.5,
    aggregation: Annotated[
        Aggregation, typer.Option(help="The table's; report.json holds all four.")
    ] = Aggregation.DIAGONAL_MEAN,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Dataset that the model was trained on, to look for its videos among the clips; by default what the run says.",
            show_default=False,
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score embeddings of any model, a Parquet file (docs/evaluating.md), instead of a checkpoint.",
            show_default=False,
        ),
    ] = None,
    save_embeddings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the embeddings in that layout.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; by default retrieval-SPLIT beside the weights, retrieval-GALLERY with a gallery, "
            "or retrieval-FILE beside the embeddings.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    root: RootOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Find each clip's video by its sound, and its sound by its video, among the clips of a split or a gallery."""
    of_models = {"--checkpoint": checkpoint, "--split": split, "--save-embeddings": save_embeddings}
    given = [name for name, value in of_models.items() if value]
    if embeddings and given:
        raise typer.BadParameter(
            f"{given[0]} and --embeddings exclude each other: the file holds its clips, and needs no model."
        )
    from cavsync.cli.console.progress import counting
    from cavsync.train.data.inputs import newest_run
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.engine.device import choose_device
    from cavsync.train.evaluation.retrieval.candidates import (
        embed_candidates,
        read_candidates,
        save_candidates,
    )
    from cavsync.train.evaluation.retrieval.protocol import RetrievalConfig, score_retrieval
    from cavsync.train.evaluation.retrieval.report import (
        contamination_section,
        gallery_name,
        write_retrieval,
    )
    from cavsync.train.evaluation.retrieval.tables import retrieval_rows
    from cavsync.train.evaluation.task import SplitTask

    job = RetrievalConfig(
        headline=aggregation.value, gallery=gallery, max_missing=max_missing, trained_on=trained_on
    )
    if embeddings:
        candidates = read_candidates(embeddings, job, data)
        beside, name = embeddings.parent, (gallery or embeddings).stem
    else:
        loaded = LoadedCheckpoint.load(checkpoint or newest_run(root / "runs"), device)
        task = SplitTask.of(loaded, data, split or "test")
        with counting("embedding", "clips", quiet=as_json) as on_clip:
            candidates = embed_candidates(task, job, on_clip)
        if save_embeddings:
            save_candidates(candidates, save_embeddings)
        beside, name = task.weights.parent, gallery.stem if gallery else task.data.split
    with counting("scoring", "tiles", quiet=as_json) as on_tile:
        scores = score_retrieval(candidates, choose_device(device), on_tile)
    folder = out or beside / f"retrieval-{name}"
    title = f"Retrieval, {gallery_name(scores)}: {scores.coverage.sentence} ({scores.job.headline})"
    record = write_retrieval(scores, folder)
    trained = contamination_section(scores)
    notes = [f"{trained.title} {trained.text}"]
    print_report(title, retrieval_rows(scores.headline), record, folder, as_json=as_json, notes=notes)
