"""`cavsync demo`: preparation, training and evaluation on a synthesised world."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.pipeline.synthetic.difficulty import Difficulty

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
    difficulty: Annotated[
        Difficulty,
        typer.Option(
            help="How hard the world's clips are to tell apart: medium and hard have fewer kinds that sound and shapes that "
            "only look as if they sounded, hard also sounds off screen; in attributes only height and size differ."
        ),
    ] = "easy",
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
    from cavsync.pipeline.storage.writable import require_writable_folder
    from cavsync.pipeline.synthetic.config import WorldConfig

    require_writable_folder(only_world or out, "give another with --only-world or --out")
    if difficulty == "attributes" and only_world is None:
        raise typer.BadParameter(
            "its frames show one thing each, and the demo's heatmaps are scored on frames of two; --only-world makes it.",
            param_hint="--difficulty",
        )
    world = WorldConfig.of_difficulty(difficulty, num_train=train_clips, num_test=test_clips)
    if only_world is not None:
        _make_world(world, only_world, workers, as_json)
        return
    from cavsync.train.demo.demo import DemoConfig

    config = DemoConfig(root=out, world=world, seed=seed, num_steps=steps, control=control)
    _make_world(world, out, workers, as_json)
    _prepare(config, workers, as_json)
    _pretrain(config, as_json)
    _evaluate(config, as_json)


def _make_world(world: "WorldConfig", out: Path, workers: int, quiet: bool) -> None:
    from cavsync.cli.console.progress import bar
    from cavsync.pipeline.synthetic.world import list_clips, make_world

    with bar("clips", quiet=quiet) as progress:
        task = progress.add_task("world", total=len(list_clips(world)), note="")
        summary = make_world(world, out, workers, lambda: progress.advance(task))
        progress.update(task, completed=summary.num_clips)
    if not quiet:
        reused = summary.num_clips - summary.num_written
        typer.echo(
            f"World of {summary.num_clips} clips in {out} ({reused} of them existed already).", err=True
        )


def _prepare(config: "DemoConfig", workers: int, as_json: bool) -> None:
    from cavsync.cli.prepare.output import BarReporter, JsonReporter, end_counts
    from cavsync.pipeline.dataset.config import PrepareConfig
    from cavsync.pipeline.jobs.prepare import prepare
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.pipeline.lists.listing import official_listing
    from cavsync.pipeline.lists.manifest import load_manifest

    listing = official_listing(load_manifest("vggsound"), config.root, None, [], "cut")
    stored = PrepareConfig(frame_size=config.world.side_px, shard_size=DEMO_SHARD_SIZE)
    with JsonReporter() if as_json else BarReporter() as reporter:
        # The whole folder may have been renamed or copied, with the world in it.
        summary = prepare(listing, config.dataset, stored, Workers(workers), reporter, videos_moved=True)
    reporter.end({"out": str(config.dataset), **end_counts(summary)})


def _pretrain(config: "DemoConfig", as_json: bool) -> None:
    """Starts the run, continues an interrupted one, or leaves a complete one."""
    from cavsync.cli.train.output import Bar, JsonLines
    from cavsync.train.engine.run_folder import WEIGHTS_NAME
    from cavsync.train.pretrain.trainer import pretrain

    if (config.run / WEIGHTS_NAME).exists():
        return
    resume = (config.run / "checkpoints" / "last.pt").exists()
    with JsonLines() if as_json else Bar(shows_config=False) as show:
        result = pretrain(config.training(), config.run, resume=resume, callbacks=[show])
    show.end(result)
    if not result.complete:
        raise KeyboardInterrupt


def _evaluate(config: "DemoConfig", as_json: bool) -> None:
    from cavsync.cli.console.progress import counting
    from cavsync.cli.console.score_table import print_scores
    from cavsync.train.demo.evaluation import evaluate_demo

    result = evaluate_demo(config, partial(counting, quiet=as_json))
    if as_json:
        scores = {score.name: score.estimate.value for score in result.scores}
        typer.echo(json.dumps(scores | {"report": str(result.report)}))
        return
    print_scores(f"Demo: {result.num_clips} test clips, seed {config.seed}", result.scores)
    typer.echo(f"Report: {result.report}")
