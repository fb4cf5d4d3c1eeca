"""`cavsync demo`: preparation, training and evaluation on a synthesised world."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cavsync.pipeline.synthetic.config import WorldConfig
    from cavsync.train.demo.demo import DemoConfig

# Small shards, so that two workers share the work evenly.
DEMO_SHARD_SIZE = 33


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder of the world, its dataset and its runs; what is there is reused.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training run; the world stays the same.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    train_clips: Annotated[int, typer.Option(min=64, help="Clips of the world to train on.")] = 400,
    test_clips: Annotated[int, typer.Option(min=4, help="Clips of the world to score on.")] = 128,
    workers: Annotated[
        int, typer.Option(min=1, help="Worker processes; more than 1 prepare as Ray tasks.")
    ] = 2,
    control: Annotated[
        bool,
        typer.Option(
            "--control",
            help="Train every clip with another clip's audio; the scores must then be near chance.",
        ),
    ] = False,
    only_world: Annotated[
        Path | None,
        typer.Option(
            help="Only write the world into this folder: mp4 files, lists in the official format, masks."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON instead of progress bars and a table.")
    ] = False,
) -> None:
    """Run everything once: synthesise a small audio-visual world as mp4 files, prepare it, train and evaluate a model.

    The results are a table and a report with images.
    A second run reuses what is there.
    """
    from cavsync.pipeline.synthetic.config import WorldConfig

    world = WorldConfig(num_train=train_clips, num_test=test_clips)
    if only_world is not None:
        _make_world(world, only_world, workers, as_json)
        return
    from cavsync.train.demo.demo import DemoConfig

    config = DemoConfig(root=out, world=world, seed=seed, num_steps=steps, control=control)
    _make_world(world, out, workers, as_json)
    _prepare(config, workers, as_json)
    _pretrain(config, as_json)
    _score(config, as_json)


def _make_world(world: "WorldConfig", out: Path, workers: int, quiet: bool) -> None:
    from cavsync.cli.console.progress import bar
    from cavsync.pipeline.synthetic.world import list_clips, make_world

    with bar("clips", quiet=quiet) as progress:
        task = progress.add_task("world", total=len(list_clips(world)), note="")
        summary = make_world(world, out, workers, lambda: progress.advance(task))
        progress.update(task, completed=summary.num_clips)
    if not quiet:
        reused = summary.num_clips - summary.num_written
        typer.echo(f"World of {summary.num_clips} clips in {out} ({reused} were there already).", err=True)


def _prepare(config: "DemoConfig", workers: int, as_json: bool) -> None:
    from cavsync.cli.prepare.output import BarReporter, JsonReporter
    from cavsync.pipeline.dataset.config import PrepareConfig
    from cavsync.pipeline.jobs.prepare import prepare
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.pipeline.lists.listing import official_listing
    from cavsync.pipeline.lists.manifest import load_manifest

    listing = official_listing(load_manifest("vggsound"), config.root, None, [], "cut")
    stored = PrepareConfig(frame_size=config.world.side_px, shard_size=DEMO_SHARD_SIZE)
    with JsonReporter() if as_json else BarReporter() as reporter:
        summary = prepare(listing, config.dataset, stored, Workers(workers), reporter)
    reporter.end({"out": str(config.dataset), "listed": summary.num_listed, "states": dict(summary.states)})


def _pretrain(config: "DemoConfig", as_json: bool) -> None:
    """Starts the run, continues an interrupted one, or leaves a complete one."""
    from cavsync.cli.train.output import Bar, JsonLines
    from cavsync.train.engine.run_folder import WEIGHTS_NAME
    from cavsync.train.pretrain.trainer import pretrain

    if (config.run / WEIGHTS_NAME).exists():
        return
    resume = (config.run / "checkpoints" / "last.pt").exists()
    with JsonLines() if as_json else Bar() as show:
        result = pretrain(
            config.training(), config.run, resume=resume, on_start=show.start, on_step=show.step
        )
    show.end(result)
    if not result.complete:
        raise KeyboardInterrupt


def _score(config: "DemoConfig", as_json: bool) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.cli.console.score_table import print_scores
    from cavsync.pipeline.synthetic.world import read_world
    from cavsync.train.demo.demo import (
        segment_world,
        segmentation_summary,
        synchronise_world,
        synchrony_summary,
        write_demo_report,
    )
    from cavsync.train.demo.videos import (
        localize_world,
        localized_section,
        search_row,
        search_section,
        search_world,
    )
    from cavsync.train.embedding.checkpoint import LoadedCheckpoint
    from cavsync.train.evaluation.retrieval.candidates import embed_candidates
    from cavsync.train.evaluation.retrieval.protocol import RetrievalConfig, score_retrieval
    from cavsync.train.evaluation.retrieval.report import write_retrieval
    from cavsync.train.evaluation.retrieval.tables import own_clip_rows
    from cavsync.train.evaluation.segmentation.report import write_segmentation
    from cavsync.train.evaluation.synchrony.report import write_synchrony
    from cavsync.train.evaluation.task import SplitTask

    checkpoint = LoadedCheckpoint.load(config.run, "auto")
    task = SplitTask.of(checkpoint, None, "test")
    with counting("embedding", "clips", quiet=as_json) as on_clip:
        candidates = embed_candidates(task, RetrievalConfig(), on_clip)
    scores = score_retrieval(candidates, checkpoint.device)
    write_retrieval(scores, config.run / "retrieval-test")
    with counting("sliding", "clips", quiet=as_json) as on_clip:
        synchrony = synchronise_world(task, on_clip)
    write_synchrony(synchrony, config.run / "synchrony-test")
    with counting("mapping", "rows", quiet=as_json) as on_row:
        segmented = segment_world(config, checkpoint, on_row)
    write_segmentation(segmented, config.run / "segmentation-ade20k_sound")
    truth = read_world(config.root)
    with counting("searching", "files", quiet=as_json) as on_file:
        searched = search_world(config, checkpoint, truth, on_file)
    with counting("localizing", "s", quiet=as_json) as on_second:
        localized = localize_world(config, checkpoint, truth, on_second)
    rows = [
        *own_clip_rows(scores.headline),
        *synchrony_summary(synchrony, truth),
        *segmentation_summary(segmented),
        search_row(searched),
    ]
    videos = [search_section(searched), localized_section(config, localized)]
    report = write_demo_report(config, scores, synchrony, segmented, videos, rows)
    if as_json:
        typer.echo(json.dumps({row.name: row.value for row in rows} | {"report": str(report)}))
        return
    print_scores(f"Demo: {len(scores.embeddings.keys)} test clips, seed {config.seed}", rows)
    typer.echo(f"Report: {report}")
