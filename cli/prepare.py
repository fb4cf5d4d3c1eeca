"""`cavsync prepare`: videos to frame-aligned shards."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from cavsync.pipeline.prepare import Listing

EXIT_TOO_MANY_FAILED = 3

app = typer.Typer(no_args_is_help=True)


# The same words as in cavsync.pipeline.config, which is not imported before a command runs.
Crop = Literal["centre", "none"]
FrameTimes = Literal["centred", "upstream"]
AudioChannel = Literal["first", "mean"]
Layout = Literal["whole", "cut"]

Out = Annotated[Path, typer.Option(help="Folder of the dataset to make or to continue.")]
OutByDefault = Annotated[
    Path | None, typer.Option("--out", help="Folder of the dataset.", show_default="ROOT/data/<dataset>")
]
Root = Annotated[
    Path,
    typer.Option(
        envvar="CAVSYNC_ROOT", help="Where raw/<dataset>/ with lists and videos is, and data/ will be."
    ),
]
Videos = Annotated[
    Path | None,
    typer.Option(help="Folder of the videos, of any depth.", show_default="ROOT/raw/<dataset>/videos"),
]
Lists = Annotated[
    list[Path] | None,
    typer.Option("--list", help="A list to read instead of those in ROOT/raw/<dataset>; repeatable."),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(help="What a file named ID.mp4 holds: the whole upload, or the clip already cut out of it."),
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
MaxFailureRate = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Exit with code 3 when a larger share of the videos that are there could not be prepared.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout instead of a bar and a table.")]


@app.command()
def folder(
    videos: Annotated[
        Path, typer.Argument(help="Folder of videos, of any depth: mp4, mkv, webm, avi, mov, m4v.")
    ],
    out: Out,
    workers: NumWorkers = 1,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the videos that becomes the split 'test'.")
    ] = 0.0,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Prepare your own videos: the first 10 s of every file."""
    config = _config(locals())
    from cavsync.pipeline.listing import folder_listing

    _run(folder_listing(videos, test_share), out, config, workers, ray_address, max_failure_rate, json)


@app.command()
def audioset(
    root: Root = Path(),
    videos: Videos = None,
    lists: Lists = None,
    layout: LayoutOption = "whole",
    out: OutByDefault = None,
    workers: NumWorkers = 1,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Prepare AudioSet from its *_segments.csv and the videos you have."""
    _official("audioset", locals())


@app.command()
def vggsound(
    root: Root = Path(),
    videos: Videos = None,
    lists: Lists = None,
    layout: LayoutOption = "whole",
    out: OutByDefault = None,
    workers: NumWorkers = 1,
    shard_size: ShardSize = 512,
    num_frames: NumFrames = 16,
    frame_size: FrameSize = 224,
    crop: CropOption = "centre",
    frame_times: FrameTimesOption = "centred",
    audio_channel: AudioChannelOption = "first",
    max_failure_rate: MaxFailureRate = 0.5,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Prepare VGGSound from vggsound.csv and the videos you have."""
    _official("vggsound", locals())


def _official(name: str, options: dict[str, Any]) -> None:
    config = _config(options)
    from cavsync.pipeline.listing import official_listing
    from cavsync.pipeline.manifest import load_manifest

    root, lists = options["root"], options["lists"] or []
    listing = official_listing(load_manifest(name), root, options["videos"], lists, options["layout"])
    out = options["out"] or root / "data" / name
    names = ("workers", "ray_address", "max_failure_rate", "json")
    _run(listing, out, config, *(options[name] for name in names))


def _config(options: dict[str, Any]) -> Any:
    """The PrepareConfig of a command's options. Raises BadParameter for a value that cannot be used."""
    # The worker has one core; a second BLAS thread would only spin. Read when numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from cavsync.pipeline.config import PrepareConfig

    names = ("shard_size", "num_frames", "frame_size", "crop", "frame_times", "audio_channel")
    try:
        return PrepareConfig(**{name: options[name] for name in names})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _run(
    listing: "Listing",
    out: Path,
    config: Any,
    workers: int,
    ray_address: str | None,
    max_failure_rate: float,
    json: bool,
) -> None:
    from cavsync.cli.prepare_report import BarReporter, JsonReporter
    from cavsync.pipeline.prepare import prepare
    from cavsync.pipeline.runner import Workers

    with JsonReporter() if json else BarReporter() as reporter:
        summary = prepare(listing, out, config, Workers(workers, ray_address), reporter)
    rate = summary.failure_rate
    reporter.end(
        {"out": str(out), "listed": summary.num_listed, "states": dict(summary.states)}
        | {"failure_rate": rate}
    )
    if rate > max_failure_rate:
        message = f"{rate:.1%} of the videos could not be prepared, more than --max-failure-rate {max_failure_rate:g}."
        typer.secho(f"{message} The column `reason` in {out / 'index'} tells why.", fg="red", err=True)
        raise typer.Exit(EXIT_TOO_MANY_FAILED)
