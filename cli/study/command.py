"""`cavsync study`: ablations with seeds, controls and a report."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cavsync.cli.console.options import RayAddressOption
from cavsync.cli.study.output import StepNote, print_plan, print_report, print_shipped_studies, run_line
from cavsync.train.choices import DeviceChoice

if TYPE_CHECKING:
    from cavsync.train.study.definition import Study
    from cavsync.train.study.folder import StudyFolder
    from cavsync.train.study.plan import PlannedRun

# Seconds until a process looks again whether another one has ended what both need.
LOOK_AGAIN_S = 1.0

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Compare variants of a training over seeds, with metrics that are fixed before the first run."""


@app.command(name="list")
def list_studies() -> None:
    """List the studies that cavsync brings."""
    print_shipped_studies()


@app.command()
def show(name: Annotated[str, typer.Argument(help="A name of `cavsync study list`.")]) -> None:
    """Print the TOML of a study that cavsync brings, to copy and change."""
    from cavsync.train.study.study_file import read_study, shipped_studies

    read_study(name)
    typer.echo(shipped_studies().get(name) or Path(name).read_text(), nl=False)


@app.command()
def run(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="TOML file, or a name of `cavsync study list`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; what is complete there is not repeated.", show_default="studies/NAME"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Dataset folder that `cavsync prepare` made.",
            show_default="the small world that the study names",
        ),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Only these arms, separated by commas; other processes may run the others."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Only these seeds of the study, separated by commas.")
    ] = None,
    device: Annotated[
        DeviceChoice, typer.Option(help="Device to train on; auto takes a GPU if there is one.")
    ] = "auto",
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Runs at a time; more than 1 are Ray tasks, each with a GPU where there are some."
        ),
    ] = 1,
    ray_address: RayAddressOption = None,
    only_plan: Annotated[
        bool,
        typer.Option(
            "--only-plan",
            help="Write the study down and print its runs and their cost, without starting any.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON line for each run that ends instead of a progress bar."),
    ] = False,
) -> None:
    """Train and score every arm of a study with every seed, then write its report.

    The same command continues an interrupted study, and several processes may share its folder.
    """
    from cavsync.pipeline.jobs.work import Workers
    from cavsync.pipeline.storage.writable import require_writable_folder
    from cavsync.train.study.study_file import read_study

    definition = read_study(study)
    root = (out or Path("studies") / Path(study).stem).absolute()
    require_writable_folder(root, "give another with --out")
    pool = Workers(workers, ray_address)
    folder = _fixed(definition, root, data, pool, as_json)
    chosen = _chosen(folder, arms, seeds)
    if only_plan:
        print_plan(folder, chosen, device)
        return
    _carry_out(folder, chosen, device, pool, as_json)
    print_report(folder, as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of a table.")] = False,
) -> None:
    """Write report.json and report.html of the runs of a study that are complete so far."""
    from cavsync.train.study.folder import StudyFolder

    print_report(StudyFolder.open(folder), as_json)


def _fixed(definition: "Study", root: Path, data: Path | None, pool: Any, quiet: bool) -> "StudyFolder":
    """The study as it is written down in `root`, where this process or another one did so."""
    from cavsync.pipeline.storage.lock import LockError, run_lock
    from cavsync.train.study.folder import StudyFolder

    waits = False
    while True:
        try:
            with run_lock(root):
                return StudyFolder.fixed(definition, root, _dataset(definition, root, data, pool, quiet))
        except LockError:
            if not waits and not quiet:
                typer.echo("Another process makes the data of this study; waiting for it.", err=True)
            waits = True
            time.sleep(LOOK_AGAIN_S)


def _dataset(definition: "Study", root: Path, data: Path | None, pool: Any, quiet: bool) -> Path:
    """The dataset that was given, or that of the study's world, which is made where it is not there."""
    from cavsync.cli.console.progress import counting
    from cavsync.cli.train.options import require_dataset
    from cavsync.train.errors import StudyError
    from cavsync.train.study.world import make_study_world

    if data is not None:
        require_dataset(str(data))
        return data
    world = definition.world_config()
    if world is None:
        raise StudyError(
            "This study makes no world: give the dataset to train and to score on with --data DIR."
        )
    with counting("world", "clips", quiet=quiet) as on_clip:
        return make_study_world(world, root, pool, on_clip, lambda line: None)


def _chosen(folder: "StudyFolder", arms: str | None, seeds: str | None) -> "list[PlannedRun]":
    """The runs of these arms and seeds; wrong usage where the study has no such arm or seed."""
    wanted_arms = _listed("--arms", arms, [arm.name for arm in folder.study.arms])
    wanted_seeds = _listed("--seeds", seeds, [str(seed) for seed in folder.study.seeds])
    return [one for one in folder.runs if one.arm in wanted_arms and str(one.seed) in wanted_seeds]


def _listed(option: str, given: str | None, known: list[str]) -> list[str]:
    chosen = known if given is None else [name.strip() for name in given.split(",")]
    for name in chosen:
        if name not in known:
            raise typer.BadParameter(
                f"the study has no {name!r}; it has: {', '.join(known)}.", param_hint=option
            )
    return chosen


def _carry_out(
    folder: "StudyFolder", runs: "Sequence[PlannedRun]", device: DeviceChoice, pool: Any, as_json: bool
) -> None:
    """Raises KeyboardInterrupt where a run was stopped, and StudyError where a worker was lost."""
    from cavsync.cli.console.progress import bar
    from cavsync.train.errors import StudyError
    from cavsync.train.study.runs import carry_out, outcome_of

    done = sum(outcome_of(folder, one) is not None for one in runs)
    with bar("runs", quiet=as_json) as progress:
        task = progress.add_task("study", total=len(runs), completed=done, note="")

        def log(line: str) -> None:
            if not as_json:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        shown = lambda one: [StepNote(one, progress, task)]
        for one, outcome in carry_out(folder, runs, device, pool, log, shown):
            if as_json:
                typer.echo(json.dumps({"event": "run", "run": one.name, "outcome": outcome}))
            log(run_line(folder, one, outcome))
            if outcome == "stopped":
                raise KeyboardInterrupt
            if outcome == "lost":
                raise StudyError(
                    f"{one.name} lost its worker twice, as where memory is short; the same command continues it."
                )
            progress.advance(task)
