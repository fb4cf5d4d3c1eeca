"""Videos to vectors with times in one call, as `cavsync.embed` and as `cavsync embed` gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.train.choices import InferencePrecision
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder, FileEmbeddings
from cavsync.train.errors import EvaluationError

AnyCheckpoint = Path | str | LoadedCheckpoint


@overload
def embed(  # type: ignore[overload-overlap]  # a string is a sequence of strings too
    videos: Path | str,
    checkpoint: AnyCheckpoint,
    *,
    step_s: float | None = None,
    device: str = "auto",
    precision: InferencePrecision = "auto",
) -> FileEmbeddings: ...


@overload
def embed(
    videos: Sequence[Path | str],
    checkpoint: AnyCheckpoint,
    *,
    step_s: float | None = None,
    device: str = "auto",
    precision: InferencePrecision = "auto",
) -> list[FileEmbeddings]: ...


def embed(
    videos: Path | str | Sequence[Path | str],
    checkpoint: AnyCheckpoint,
    *,
    step_s: float | None = None,
    device: str = "auto",
    precision: InferencePrecision = "auto",
) -> FileEmbeddings | list[FileEmbeddings]:
    """Embeds windows of audio, and the frames in their middle, of one file or of several, of any length.

    Args:
        videos: A video or an audio file; several give a list.
        checkpoint: A run folder, a checkpoint file, or what `cavsync.LoadedCheckpoint.load` made of one.
        step_s: Seconds from window to window; by default half a window.
        device: "auto", "cpu" or "cuda"; a loaded checkpoint stays where it is.
        precision: "auto", "float32" or "bfloat16"; a loaded checkpoint keeps its own. "auto" is bfloat16 where the
            device computes it faster.

    Returns:
        For each file its W windows: times in seconds, (W,), and unit vectors `audio` and `image`, (W, D) float32, with
        rows of NaN where a window is silent or has no frame.

    Raises:
        CavsyncError: The checkpoint cannot be loaded, the step does not fit its windows, or a file gives no window.
    """
    if not isinstance(checkpoint, LoadedCheckpoint):
        checkpoint = LoadedCheckpoint.load(checkpoint, device, precision)
    embedder = Embedder(checkpoint, step_s)
    with DecoderProcess() as decoder:
        if isinstance(videos, (str, Path)):
            return _embed_file(embedder, videos, decoder)
        return [_embed_file(embedder, video, decoder) for video in videos]


def _embed_file(embedder: Embedder, video: Path | str, decoder: DecoderProcess) -> FileEmbeddings:
    try:
        return embedder.embed(video, decoder)
    except MediaError as error:
        raise EvaluationError(f"{video} cannot be embedded: {error}.") from error
