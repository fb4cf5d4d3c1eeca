"""Opens a media file with the decoding library of a given name."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from cavsync.pipeline.dataset.choices import DecoderName
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.backends.joined import JoinedFileDecoder
from cavsync.pipeline.media.backends.timing import timing_error
from cavsync.pipeline.media.decode import Backend, ClipDecoder
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.timeline import open_container
from cavsync.pipeline.storage.member_file import MemberError
from cavsync.pipeline.storage.path import MediaPath, as_path, local_copy

# Module and class; only what is used gets imported, since a library may be absent.
BACKENDS: dict[DecoderName, tuple[str, str]] = {
    "pyav": ("cavsync.pipeline.media.backends.pyav", "PyAvDecoder"),
    "decord": ("cavsync.pipeline.media.backends.decord", "DecordDecoder"),
    "ffmpeg": ("cavsync.pipeline.media.backends.ffmpeg", "FfmpegDecoder"),
}


def backend_class(decoder: DecoderName) -> type[Backend]:
    """Raises ImportError without the library."""
    module, name = BACKENDS[decoder]
    backend: type[Backend] = getattr(import_module(module), name)
    return backend


def backend_of(container: Container, decoder: DecoderName) -> Backend:
    """Raises MediaError for a library that cannot time the file."""
    backend = backend_class(decoder)
    if not container.timeline:
        return backend(container)
    if backend.opens_path:
        raise timing_error(decoder, "other files were joined to it, and their times begin anew")
    return JoinedFileDecoder(container)


@contextmanager
def open_media(
    source: str | MediaPath, timeout_s: float, decoder: DecoderName = "pyav"
) -> Iterator[ClipDecoder]:
    """The open file, closed at the end. Raises MediaError for a file that cannot be read, and StoreError where a store
    fails.

    `timeout_s` is wall clock from here to the end of `decode`.
    """
    deadline = Deadline(timeout_s)
    with (
        _within_reach(source, backend_class(decoder).opens_path) as file,
        open_container(file, deadline) as container,
    ):
        yield ClipDecoder(container, backend_of(container, decoder))


@contextmanager
def _within_reach(source: str | MediaPath, as_whole: bool) -> Iterator[str | MediaPath]:
    """The source, or a copy of one at a URL: PyAV reads the parts that it needs, the others need the whole file."""
    if not as_whole:
        yield source
        return
    try:
        with local_copy(as_path(source)) as path:
            yield path
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{source} is not there") from error
    except MemberError as error:
        raise MediaError(ClipState.DECODE_ERROR, str(error)) from error
