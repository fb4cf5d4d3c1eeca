"""`cavsync data score`: how well the audio and the frames of each clip belong together, by a trained model."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.model_options import ModelOptions
from cavsync.cli.console.options import with_options

if TYPE_CHECKING:
    from cavsync.train.curation.clip_scores import ClipScores

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@with_options
def score(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of a dataset, such as data/vggsound.", show_default=False),
    ],
    model: ModelOptions,
    split: Annotated[str, typer.Option(help="Split to score: train, test, all, or the name of one.")] = "all",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of the scores.", show_default="scores-SPLIT.parquet beside the weights"
        ),
    ] = None,
    references: Annotated[
        int, typer.Option(min=20, help="Clips with whose audio each clip's own audio is compared.")
    ] = 256,
    max_offset: Annotated[
        float, typer.Option(min=0.1, help="Largest delay that is looked for, in seconds, either way.")
    ] = 3.0,
    step: Annotated[
        float, typer.Option(min=0.01, help="Seconds between the starts of audio segments.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Draws the clips to compare with.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")
    ] = False,
) -> None:
    """Score how well audio and frames of each clip belong together, for `data subset --scores` and `data.scores`.

    A model that was trained on the same clips has learned their faults too: score a part with a model that was trained on
    another (docs/preparing.md).
    """
    from cavsync.cli.console.progress import counting
    from cavsync.pipeline.curation.score_file import write_scores
    from cavsync.train.curation.clip_scores import score_clips
    from cavsync.train.evaluation.synchrony.config import SynchronyConfig
    from cavsync.train.evaluation.task import SplitTask

    config = SynchronyConfig(max_offset_s=max_offset, step_s=step, seed=seed)
    task = SplitTask.of(model.load(), folder, split)
    path = out or task.weights.parent / f"scores-{split}.parquet"
    about = {
        "dataset": task.data.one_path,
        "split": split,
        "checkpoint": str(task.weights.resolve()),
        "references": references,
        "max_offset_s": max_offset,
        "step_s": step,
        "seed": seed,
    }
    _require_own(path, about)
    with counting("scoring", "clips", quiet=as_json) as on_clip:
        scores = score_clips(task, config, references, on_clip)
    write_scores(path, map(asdict, scores.clips), about)
    found = _percentiles(scores.clips)
    if as_json:
        typer.echo(
            json.dumps({"scores": str(path), "coverage": scores.coverage.as_dict(), "percentiles": found})
        )
        return
    _print(found)
    typer.echo(f"{scores.coverage.sentence}, each against {scores.num_references:,} others.\nScores: {path}")


def _require_own(path: Path, about: dict[str, Any]) -> None:
    """Raises ScoreFileError where the file holds scores that were made otherwise."""
    from cavsync.pipeline.curation.score_file import ScoreFileError, scored_by

    if not path.exists():
        return
    before = scored_by(path)
    changes = [
        f"{name} was {before.get(name)!r} and is now {value!r}"
        for name, value in about.items()
        if before.get(name) != value
    ]
    if changes:
        raise ScoreFileError(f"{path} holds other scores: {'; '.join(changes)}. Choose another --out.")


def _percentiles(clips: "Sequence[ClipScores]") -> dict[str, dict[str, float]]:
    """Score -> percentile -> value, over the clips that have the score."""
    import numpy as np

    found = {}
    for name in [one.name for one in fields(clips[0]) if one.name != "key"]:
        values = [getattr(clip, name) for clip in clips if getattr(clip, name) is not None]
        if values:
            cuts = np.percentile(values, PERCENTILES)
            found[name] = {str(one): float(cut) for one, cut in zip(PERCENTILES, cuts, strict=True)}
    return found


def _print(found: dict[str, dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("score", *(f"{one} %" for one in PERCENTILES), title="Percentiles over the clips")
    for name, cuts in found.items():
        table.add_row(name, *(f"{cut:.2f}" for cut in cuts.values()))
    Console().print(table)
