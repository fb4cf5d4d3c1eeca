"""Heatmaps of a video in one call, as `cavsync.localize` gives them."""

from pathlib import Path

from cavsync.train.choices import InferencePrecision, MapMethod
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embed import AnyCheckpoint
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.evaluation.heatmaps.heatmap import QUICK
from cavsync.train.inference.localize.calibration import calibrate as calibrate_by
from cavsync.train.inference.localize.localized_video import LocalizedVideo
from cavsync.train.inference.localize.localizer import localize as localize_windows


def localize(
    video: Path | str,
    checkpoint: AnyCheckpoint,
    *,
    audio: Path | str | None = None,
    method: MapMethod = "masked-view",
    step_s: float | None = None,
    calibrate: Path | str | None = None,
    device: str = "auto",
    precision: InferencePrecision = "float32",
) -> LocalizedVideo:
    """Makes heatmaps of where in a video's frames its audio comes from, one for each window of audio.

    Args:
        video: A video of any length.
        checkpoint: A run folder, a checkpoint file, or what `cavsync.LoadedCheckpoint.load` made of one.
        audio: An audio file or a video whose audio is localized instead of the video's own.
        method: "masked-view", cavsync's own, or "denseav", the published product of patches.
        step_s: Seconds from window to window; by default half a window.
        calibrate: A prepared dataset with test clips, or a file of `cavsync embed`, that sets the similarity above which
            audio may come from a frame; without one, the verdict is "cannot tell".
        device: "auto", "cpu" or "cuda"; a loaded checkpoint stays where it is.
        precision: "float32", "auto" or "bfloat16"; a loaded checkpoint keeps its own.

    Returns:
        For W windows: times in seconds, (W,), the frames as JPEG, `similarity`, (W,), and `maps[method]`, (W, rows,
        columns) float32, with NaN where a frame or audio is missing.

    Raises:
        CavsyncError: The checkpoint cannot be loaded, or no window of the video has a frame and audio.
    """
    if not isinstance(checkpoint, LoadedCheckpoint):
        checkpoint = LoadedCheckpoint.load(checkpoint, device, precision)
    embedder = Embedder(checkpoint, step_s)
    calibration = None if calibrate is None else calibrate_by(embedder, Path(calibrate))
    other = None if audio is None else Path(audio)
    return localize_windows(embedder, Path(video), other, (method,), QUICK, calibration)
