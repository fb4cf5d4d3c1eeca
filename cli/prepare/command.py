"""`cavsync prepare`: videos to shards of frames and log-mels on one clock."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cavsync.cli.console.interrupts import sigterm_as_ctrl_c
from cavsync.cli.console.options import with_options
from cavsync.cli.console.paths import PathOrUrl, path_argument, path_option
from cavsync.cli.prepare.options import (
    ColumnOptions,
    DatasetOptions,
    LayoutOption,
    OutOption,
    PrepareOptions,
    RootOption,
)
from cavsync.pipeline.dataset.choices import FolderClips, FolderLabels

if TYPE_CHECKING:
    from cavsync.pipeline.lists.listing import Listing
    from cavsync.pipeline.storage.path import AnyPath

EXIT_TOO_MANY_FAILED = 3

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Prepare a dataset: videos to shards of frames and log-mels on one clock."""
    # Each worker has one core; a second BLAS thread would only spin. Read when numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@app.command()
@with_options
def folder(
    videos: Annotated[
        PathOrUrl,
        path_argument(
            help="Folder of videos (mp4, mkv, mov, avi, ts and others, by suffix) or of archives of them (tar, tar.gz, tgz, zip), or one archive; sub-folders are searched too."
        ),
    ],
    out: OutOption,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fraction of the videos that goes into the split 'test'.")
    ] = 0.0,
    clips: Annotated[
        FolderClips,
        typer.Option(help="The first 10 s of each file, or all of it in consecutive clips of 10 s."),
    ] = "first",
    labels_from: Annotated[
        FolderLabels,
        typer.Option(
            help="folders: the first sub-folder of VIDEOS on the way to a file is its label, as in dog/a.mp4."
        ),
    ] = "none",
    *,
    options: PrepareOptions,
) -> None:
    """Prepare a folder of videos: the first 10 s of every file, or all of it."""
    config = options.config()
    _require_writable(out, options)
    from cavsync.pipeline.dataset.paths import DatasetPaths
    from cavsync.pipeline.lists.folder import folder_listing

    listing = folder_listing(
        videos, test_fraction, clips, config.min_duration_s, labels_from, DatasetPaths(out).archives
    )
    _run(listing, out, options)


@app.command()
@with_options
def audioset(dataset: DatasetOptions, options: PrepareOptions) -> None:
    """Prepare AudioSet from its *_segments.csv and the videos you have."""
    _described("audioset", dataset, options)


@app.command()
@with_options
def vggsound(dataset: DatasetOptions, options: PrepareOptions) -> None:
    """Prepare VGGSound from vggsound.csv and the videos you have."""
    _described("vggsound", dataset, options)


@app.command()
@with_options
def manifest(
    lists: Annotated[
        list[PathOrUrl] | None,
        path_argument(metavar="LIST...", help="Lists of clips: CSV, Parquet or JSON Lines."),
    ] = None,
    dataset_file: Annotated[
        PathOrUrl | None,
        path_option(
            help="A TOML file that describes a dataset (docs/datasets.md), or the name of a description that cavsync has."
        ),
    ] = None,
    root: RootOption = Path(),
    videos: Annotated[
        PathOrUrl | None,
        path_option(
            help="Folder of the videos, or of archives of them, or one archive; sub-folders are searched too."
        ),
    ] = None,
    *,
    columns: ColumnOptions,
    layout: LayoutOption = "auto",
    out: Annotated[
        PathOrUrl | None, path_option(help="Folder of the dataset to make or to continue.")
    ] = None,
    options: PrepareOptions,
) -> None:
    """Prepare any dataset from your lists of clips, or as a file describes it."""
    titles = columns.titles()
    if dataset_file is not None:
        if any(titles.values()):
            raise typer.BadParameter("--dataset-file names the columns; leave out --...-column.")
        dataset = DatasetOptions(root=root, videos=videos, lists=lists, layout=layout, out=out)
        _described(dataset_file, dataset, options)
        return
    if not lists:
        raise typer.BadParameter("Name a list to prepare, or describe the dataset with --dataset-file.")
    if videos is None:
        raise typer.BadParameter(
            "--videos names the folder of the videos; without a --dataset-file it has no default."
        )
    if out is None:
        raise typer.BadParameter(
            "--out names the folder of the dataset; without a --dataset-file it has no default."
        )
    options.config()  # wrong usage is found before the lists are read
    _require_writable(out, options)
    from cavsync.pipeline.dataset.paths import DatasetPaths
    from cavsync.pipeline.lists.columns import spec_from_titles
    from cavsync.pipeline.lists.listing import list_listing

    spec = spec_from_titles(lists[0], titles)
    archive_index = DatasetPaths(out).archives
    _run(list_listing(out.resolve().name, lists, spec, videos, layout, archive_index), out, options)


def _described(name: "str | AnyPath", dataset: DatasetOptions, options: PrepareOptions) -> None:
    """Prepare a dataset that a file describes; `name` is the file, or the name of a description in manifests/."""
    options.config()  # wrong usage is found before the lists are read
    from cavsync.pipeline.dataset.paths import DatasetPaths
    from cavsync.pipeline.lists.listing import official_listing
    from cavsync.pipeline.lists.manifest import read_manifest
    from cavsync.pipeline.storage.path import as_path

    manifest = read_manifest(as_path(name))
    out = dataset.out or dataset.root / "data" / manifest.name
    _require_writable(out, options)
    lists, archive_index = dataset.lists or [], DatasetPaths(out).archives
    listing = official_listing(manifest, dataset.root, dataset.videos, lists, dataset.layout, archive_index)
    _run(listing, out, options)


def _require_writable(out: "AnyPath", options: PrepareOptions) -> None:
    """Raises OutputError, before lists and videos are read, where no folder `out` can be written; makes no folder."""
    from cavsync.pipeline.storage.writable import require_writable_folder

    if isinstance(out, Path) and not options.dry_run:
        there = next(one for one in (out, *out.absolute().parents) if os.path.lexists(one))
        require_writable_folder(there, "give another with --out")


def _run(listing: "Listing", out: "AnyPath", options: PrepareOptions) -> None:
    if options.dry_run:
        _estimate(listing, out, options)
    else:
        _prepare(listing, out, options)


def _estimate(listing: "Listing", out: "AnyPath", options: PrepareOptions) -> None:
    from cavsync.cli.prepare.estimate import print_estimate
    from cavsync.cli.prepare.output import BarReporter, JsonReporter
    from cavsync.pipeline.jobs.estimate import estimate

    with JsonReporter() if options.json else BarReporter() as reporter, sigterm_as_ctrl_c():
        expected = estimate(
            listing, out, options.config(), options.workers, reporter, videos_moved=options.videos_moved
        )
    print_estimate(expected, ", ".join(listing.lists), out, as_json=options.json)


def _prepare(listing: "Listing", out: "AnyPath", options: PrepareOptions) -> None:
    from cavsync.cli.prepare.output import BarReporter, JsonReporter, end_counts
    from cavsync.pipeline.jobs.prepare import prepare
    from cavsync.pipeline.jobs.progress import recorded
    from cavsync.pipeline.jobs.work import Workers

    workers = Workers(options.workers, options.ray_address)
    with (
        JsonReporter() if options.json else BarReporter() as reporter,
        recorded(reporter, out, workers.number) as recording,
        sigterm_as_ctrl_c(),
    ):
        summary = prepare(
            listing,
            out,
            options.config(),
            workers,
            recording,
            retry_failed=options.retry_failed,
            videos_moved=options.videos_moved,
        )
    rate = summary.failure_rate
    reporter.end(
        {
            "out": str(out),
            **end_counts(summary),
            "failure_rate": rate,
            "left_out": summary.content["left_out"],
        }
    )
    _require_kept(summary.content["states"], out, options)
    if rate > options.max_failure_rate:
        typer.secho(
            f"{rate:.1%} of the videos could not be prepared, more than --max-failure-rate "
            f"{options.max_failure_rate:g}. `cavsync data status {out} --failed` lists each with its reason.",
            fg="red",
            err=True,
        )
        raise typer.Exit(EXIT_TOO_MANY_FAILED)


def _require_kept(states: Mapping[str, int], out: "AnyPath", options: PrepareOptions) -> None:
    """Raises FilterError where the condition leaves no clip; the dataset says so by its states too."""
    if not states.get("ok") and states.get("filtered"):
        from cavsync.pipeline.curation.clip_filter import FilterError

        raise FilterError(
            f"--keep {options.keep!r} leaves none of the {states['filtered']:,} clips that were prepared. Give another condition and "
            f"another --out, or remove {out}, which keeps this one."
        )
