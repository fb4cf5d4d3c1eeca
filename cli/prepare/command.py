"""`cavsync prepare`: videos to frame-aligned shards."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cavsync.cli.console.interrupts import sigterm_as_ctrl_c
from cavsync.cli.console.paths import Where, place_argument, place_option

if TYPE_CHECKING:
    from cavsync.pipeline.lists.listing import Listing
    from cavsync.pipeline.storage.path import AnyPath

EXIT_TOO_MANY_FAILED = 3

app = typer.Typer(no_args_is_help=True)


# The same words as in cavsync.pipeline.dataset.config, which is not imported before a command runs.
Crop = Literal["centre", "none"]
FrameTimes = Literal["centred", "upstream"]
AudioChannel = Literal["first", "mean"]
DecoderName = Literal["pyav", "decord", "ffmpeg"]
Layout = Literal["auto", "whole", "cut"]
Clips = Literal["first", "all"]

Out = Annotated[Where, place_option(help="Folder of the dataset to make or to continue.")]
OutByDefault = Annotated[
    Where | None, place_option("--out", help="Folder of the dataset.", show_default="ROOT/data/<dataset>")
]
Root = Annotated[
    Where,
    place_option(
        envvar="CAVSYNC_ROOT", help="Where raw/<dataset>/ with lists and videos is, and data/ will be."
    ),
]
Videos = Annotated[
    Where | None,
    place_option(help="Folder of the videos, of any depth.", show_default="ROOT/raw/<dataset>/videos"),
]
Lists = Annotated[
    list[Where] | None,
    place_option("--list", help="A list to read instead of those in ROOT/raw/<dataset>; repeatable."),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        help="What a file named ID.mp4 holds: the whole upload, or the clip already cut out of it. auto looks."
    ),
]
NumWorkers = Annotated[
    int, typer.Option("--workers", min=1, help="Shards at a time. 1 runs here; more run as Ray tasks.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="A Ray cluster to join, such as auto or ray://host:10001; else one is started here."),
]
ShardSize = Annotated[int, typer.Option(help="Listed clips a shard.")]
NumFrames = Annotated[int, typer.Option(help="Pictures a clip.")]
FrameSize = Annotated[int, typer.Option(help="Short side of the stored pictures, in pixels.")]
CropOption = Annotated[Crop, typer.Option(help="Keep the centre square, or the whole picture.")]
FrameTimesOption = Annotated[
    FrameTimes,
    typer.Option(
        help="Middles of equal parts, or from the first picture to the last as the published model's."
    ),
]
AudioChannelOption = Annotated[AudioChannel, typer.Option(help="First channel, or the mean of all.")]
DecoderOption = Annotated[
    DecoderName,
    typer.Option(
        "--decoder", help="What decodes. decord and ffmpeg refuse files that they would time wrongly."
    ),
]
MaxFailureRate = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Exit with code 3 when a larger share of the videos that are there could not be prepared.",
    ),
]
ClipTimeout = Annotated[
    float, typer.Option(help="Seconds that one clip may take; one that takes longer ends as timeout.")
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Try the clips that failed once more, and those whose video is there by now."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Prepare a few clips, say what all would take, and write nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout instead of a bar and a table.")]

# Option of each column that a list of one's own may have.
COLUMN_OPTIONS = {
    "id": "id",
    "start_s": "start",
    "end_s": "end",
    "labels": "labels",
    "label": "label",
    "split": "split",
    "file": "file",
}


def column_option(title: str, holds: str) -> Any:
    return typer.Option(help=f"Column that holds {holds}.", show_default=f"{title}, if there is one")


@app.command()
def folder(
    videos: Annotated[
        Where, place_argument(help="Folder of videos, of any depth: mp4, mkv, webm, avi, mov, m4v.")
    ],
    out: Out,
    workers: NumWorkers = 1,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the videos that becomes the split 'test'.")
    ] = 0.0,
    clips: Annotated[
        Clips, typer.Option(help="The first 10 s of each file, or all of it in consecutive clips of 10 s.")
    ] = "first",
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    decoder: DecoderOption = "pyav",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    clip_timeout: ClipTimeout = 120.0,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Prepare your own videos: the first 10 s of every file, or all of it."""
    options = locals()
    config = _config(options)
    from cavsync.pipeline.lists.listing import folder_listing

    _run(folder_listing(videos, test_share, clips, config.min_duration_s), out, config, options)


@app.command()
def audioset(
    root: Root = Path(),
    videos: Videos = None,
    lists: Lists = None,
    layout: LayoutOption = "auto",
    out: OutByDefault = None,
    workers: NumWorkers = 1,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    decoder: DecoderOption = "pyav",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    clip_timeout: ClipTimeout = 120.0,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Prepare AudioSet from its *_segments.csv and the videos you have."""
    _official("audioset", locals())


@app.command()
def vggsound(
    root: Root = Path(),
    videos: Videos = None,
    lists: Lists = None,
    layout: LayoutOption = "auto",
    out: OutByDefault = None,
    workers: NumWorkers = 1,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    decoder: DecoderOption = "pyav",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    clip_timeout: ClipTimeout = 120.0,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Prepare VGGSound from vggsound.csv and the videos you have."""
    _official("vggsound", locals())


@app.command()
def manifest(
    lists: Annotated[
        list[Where] | None,
        place_argument(metavar="LIST...", help="Lists of clips: CSV, Parquet or JSON Lines."),
    ] = None,
    dataset_file: Annotated[
        Where | None,
        place_option(
            help="A TOML that describes a dataset (docs/datasets.md), or the name of one that ships."
        ),
    ] = None,
    root: Root = Path(),
    videos: Annotated[Where | None, place_option(help="Folder of the videos, of any depth.")] = None,
    id_column: Annotated[str | None, column_option("id", "the clip's id")] = None,
    start_column: Annotated[str | None, column_option("start_s", "where the clip begins, in seconds")] = None,
    end_column: Annotated[
        str | None, column_option("end_s", "where it ends; without it clips last 10 s")
    ] = None,
    labels_column: Annotated[
        str | None, column_option("labels", "its labels, separated by commas or as a list")
    ] = None,
    label_column: Annotated[str | None, column_option("label", "its one label, commas and all")] = None,
    split_column: Annotated[str | None, column_option("split", "its split; without it all is train")] = None,
    file_column: Annotated[
        str | None, column_option("file", "its video's path below the folder of the videos")
    ] = None,
    layout: LayoutOption = "auto",
    out: Annotated[Where | None, place_option(help="Folder of the dataset to make or to continue.")] = None,
    workers: NumWorkers = 1,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    decoder: DecoderOption = "pyav",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    clip_timeout: ClipTimeout = 120.0,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Prepare any dataset: from lists of your own, or as a file describes it."""
    options = locals()
    titles = {column: options[f"{option}_column"] for column, option in COLUMN_OPTIONS.items()}
    if dataset_file is not None:
        _require(
            not any(titles.values()), "--dataset-file tells what the columns hold; leave out --...-column."
        )
        _official(dataset_file, options)
        return
    _require(lists, "Name a list to prepare, or describe the dataset with --dataset-file.")
    _require(
        videos, "--videos names the folder of the videos; without --dataset-file there is no other place."
    )
    _require(out, "--out names the folder of the dataset.")
    _own_lists(titles, options)


def _require(there: object, way_out: str) -> None:
    if not there:
        raise typer.BadParameter(way_out)


def _own_lists(titles: dict[str, str | None], options: dict[str, Any]) -> None:
    config = _config(options)
    from cavsync.pipeline.lists.clip_list import spec_from_titles
    from cavsync.pipeline.lists.listing import list_listing

    lists, out = options["lists"], options["out"]
    spec = spec_from_titles(lists[0], titles)
    listing = list_listing(out.resolve().name, lists, spec, options["videos"], options["layout"])
    _run(listing, out, config, options)


def _official(name: "str | AnyPath", options: dict[str, Any]) -> None:
    config = _config(options)
    from cavsync.pipeline.lists.listing import official_listing
    from cavsync.pipeline.lists.manifest import read_manifest
    from cavsync.pipeline.storage.path import as_path

    root, lists, dataset = options["root"], options["lists"] or [], read_manifest(as_path(name))
    listing = official_listing(dataset, root, options["videos"], lists, options["layout"])
    out = options["out"] or root / "data" / dataset.name
    _run(listing, out, config, options)


def _config(options: dict[str, Any]) -> Any:
    """The PrepareConfig of a command's options. Raises BadParameter for a value that cannot be used."""
    # The worker has one core; a second BLAS thread would only spin. Read when numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from cavsync.pipeline.dataset.config import PrepareConfig

    names = ("shard_size", "num_frames", "frame_size", "crop", "frame_times", "audio_channel", "decoder")
    try:
        return PrepareConfig(
            **{name: options[name] for name in names}, clip_timeout_s=options["clip_timeout"]
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _run(listing: "Listing", out: "AnyPath", config: Any, options: dict[str, Any]) -> None:
    if options["dry_run"]:
        _estimate(listing, out, config, options)
    else:
        _prepare(listing, out, config, options)


def _estimate(listing: "Listing", out: "AnyPath", config: Any, options: dict[str, Any]) -> None:
    from cavsync.cli.prepare.estimate import print_estimate
    from cavsync.cli.prepare.output import BarReporter, JsonReporter
    from cavsync.pipeline.jobs.estimate import estimate

    with JsonReporter() if options["json"] else BarReporter() as reporter, sigterm_as_ctrl_c():
        expected = estimate(listing, out, config, options["workers"], reporter)
    print_estimate(expected, ", ".join(listing.lists), out, as_json=options["json"])


def _prepare(listing: "Listing", out: "AnyPath", config: Any, options: dict[str, Any]) -> None:
    from cavsync.cli.prepare.output import BarReporter, JsonReporter
    from cavsync.pipeline.jobs.prepare import prepare
    from cavsync.pipeline.jobs.progress import recorded
    from cavsync.pipeline.jobs.work import Workers

    workers, retry_failed = Workers(options["workers"], options["ray_address"]), options["retry_failed"]
    with (
        JsonReporter() if options["json"] else BarReporter() as reporter,
        recorded(reporter, out, workers.number) as heard,
        sigterm_as_ctrl_c(),
    ):
        summary = prepare(listing, out, config, workers, heard, retry_failed=retry_failed)
    rate = summary.failure_rate
    reporter.end(
        {"out": str(out), "listed": summary.num_listed, "states": dict(summary.states)}
        | {"failure_rate": rate}
    )
    max_failure_rate = options["max_failure_rate"]
    if rate > max_failure_rate:
        message = f"{rate:.1%} of the videos could not be prepared, more than --max-failure-rate {max_failure_rate:g}."
        typer.secho(f"{message} The column `reason` in {out / 'index'} tells why.", fg="red", err=True)
        raise typer.Exit(EXIT_TOO_MANY_FAILED)
