"""Options of the commands of `cavsync prepare`, each defined once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cavsync.cli.console.options import RayAddressOption
from cavsync.cli.console.paths import PathOrUrl, path_option
from cavsync.pipeline.dataset.choices import (
    AudioChannel,
    AudioCodec,
    AudioRate,
    Crop,
    DecoderName,
    FrameTimes,
    VideoLayout,
)
from cavsync.pipeline.dataset.config import PrepareConfig

OutOption = Annotated[PathOrUrl, path_option(help="Folder of the dataset to make or to continue.")]
RootOption = Annotated[
    PathOrUrl,
    path_option(
        envvar="CAVSYNC_ROOT",
        help="Folder that holds raw/<dataset>/ with lists and videos, and data/ for the results.",
    ),
]
LayoutOption = Annotated[
    VideoLayout,
    typer.Option(
        help="What a file named ID.mp4 holds: the whole upload, or the clip cut out of it. auto opens a few files."
    ),
]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Options that all commands of `cavsync prepare` have."""

    workers: Annotated[
        int, typer.Option(min=1, help="Shards made at a time. 1 runs in this process, more run as Ray tasks.")
    ] = 1
    shard_size: Annotated[int, typer.Option(help="Listed clips in each shard.")] = PrepareConfig.shard_size
    num_frames: Annotated[int, typer.Option(help="Frames stored of each clip.")] = PrepareConfig.num_frames
    frame_size: Annotated[int, typer.Option(help="Short side of the stored frames, in pixels.")] = (
        PrepareConfig.frame_size
    )
    crop: Annotated[
        Crop, typer.Option(help="centre stores the centre square of a frame, none the whole frame.")
    ] = PrepareConfig.crop
    frame_times: Annotated[
        FrameTimes,
        typer.Option(
            help="centred: the frame in the middle of each equal part of the clip. upstream: evenly from the first "
            "frame to the last, as for the published model."
        ),
    ] = PrepareConfig.frame_times
    audio_channel: Annotated[
        AudioChannel,
        typer.Option(help="Store the first audio channel that is not silent, or the mean of all channels."),
    ] = PrepareConfig.audio_channel
    keep_audio: Annotated[
        AudioCodec | None,
        typer.Option(
            help="Store the clip's audio too, mono or stereo, as a FLAC or Opus file on the clip's clock.",
            show_default="log-mel alone",
        ),
    ] = None
    keep_audio_rate: Annotated[
        AudioRate | None,
        typer.Option(
            help="Sample rate of that file; source is the video's own, which Opus rounds up to one of its own.",
            show_default="source",
        ),
    ] = None
    decoder: Annotated[
        DecoderName,
        typer.Option(
            help="Library that decodes. decord and ffmpeg refuse files whose times they would get wrong."
        ),
    ] = PrepareConfig.decoder
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Keep only clips for which this condition over the columns of the index is true, such as "
            "'not silent and not still and duration_s >= 5'; the others get the state filtered.",
            show_default="all clips",
        ),
    ] = None
    max_failure_rate: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Exit with code 3 if a larger fraction of the clips that have a video could not be prepared.",
        ),
    ] = 0.5
    ray_address: RayAddressOption = None
    clip_timeout: Annotated[
        float,
        typer.Option(help="Seconds that one clip may take; a clip that takes longer gets the state timeout."),
    ] = PrepareConfig.clip_timeout_s
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try again the clips that failed, and the missing clips that have a video by now.",
        ),
    ] = False
    videos_moved: Annotated[
        bool,
        typer.Option(
            "--videos-moved",
            help="Go on with a dataset whose video files are in another folder now, under the same names.",
        ),
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Prepare a few clips, estimate the time and space of the rest, and write nothing.",
        ),
    ] = False
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines on stdout instead of a progress bar and a table.")
    ] = False

    def config(self) -> PrepareConfig:
        """Raises BadParameter for a value that cannot be used, FilterError for a condition that is none."""
        if self.keep_audio_rate is not None and self.keep_audio is None:
            raise typer.BadParameter(
                f"--keep-audio-rate {self.keep_audio_rate} is of the audio that --keep-audio flac or opus stores; add that."
            )
        if self.keep is not None:
            from cavsync.pipeline.curation.clip_filter import CLIP_SCHEMA, ClipFilter

            ClipFilter(self.keep).check(CLIP_SCHEMA)
        try:
            return PrepareConfig(
                shard_size=self.shard_size,
                num_frames=self.num_frames,
                frame_size=self.frame_size,
                crop=self.crop,
                frame_times=self.frame_times,
                audio_channel=self.audio_channel,
                keep_audio=self.keep_audio,
                keep_audio_rate=self.keep_audio and (self.keep_audio_rate or "source"),
                decoder=self.decoder,
                keep=self.keep,
                clip_timeout_s=self.clip_timeout,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Options of the commands whose dataset has a conventional folder below the root."""

    root: RootOption = Path()
    videos: Annotated[
        PathOrUrl | None,
        path_option(
            help="Folder of the videos, or of archives of them (tar, tar.gz, tgz, zip), or one archive; sub-folders are searched too.",
            show_default="ROOT/raw/<dataset>/videos",
        ),
    ] = None
    lists: Annotated[
        list[PathOrUrl] | None,
        path_option(
            "--list",
            help="A list to read instead of those in ROOT/raw/<dataset>; may be given several times.",
        ),
    ] = None
    layout: LayoutOption = "auto"
    out: Annotated[
        PathOrUrl | None,
        path_option(help="Folder of the dataset to make or to continue.", show_default="ROOT/data/<dataset>"),
    ] = None


def _column(title: str, content: str) -> Any:
    return typer.Option(help=f"Column with {content}.", show_default=f"{title}, if there is one")


@dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """Titles of the columns of a user's lists."""

    id_column: Annotated[str | None, _column("id", "the clip's id")] = None
    start_column: Annotated[str | None, _column("start_s", "the clip's start, in seconds")] = None
    end_column: Annotated[
        str | None, _column("end_s", "the clip's end, in seconds; without it a clip lasts 10 s")
    ] = None
    labels_column: Annotated[
        str | None, _column("labels", "the clip's labels, separated by commas or as a list")
    ] = None
    label_column: Annotated[
        str | None, _column("label", "the clip's only label, which may contain commas")
    ] = None
    split_column: Annotated[
        str | None, _column("split", "the clip's split; without it all clips are in train")
    ] = None
    file_column: Annotated[
        str | None, _column("file", "the path of the clip's video, below the folder of the videos")
    ] = None

    def titles(self) -> dict[str, str | None]:
        """What a column holds -> its title, None where the option was not given."""
        return {
            "id": self.id_column,
            "start_s": self.start_column,
            "end_s": self.end_column,
            "labels": self.labels_column,
            "label": self.label_column,
            "split": self.split_column,
            "file": self.file_column,
        }
