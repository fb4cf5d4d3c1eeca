"""Fixtures that several test files share, and what pytest does before it runs tests."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The tests' models are far too small for a second thread to help, and a busy machine makes one costly.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A script's background job is started with Ctrl-C ignored, and would hand that on to the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Results survive the end of their process without it, and no test takes the machine's power away; it takes 5 ms or more.
os.fsync = os.fstat  # type: ignore[assignment]

# `import media` in any test: with --import-mode=importlib pytest itself leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from support.media import KnownClip


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU that torch can use")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects of the imported libraries stay to the end: no garbage collection needs to visit them."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.fixture(scope="session")
def known_clip(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], KnownClip]":
    """`known_clip("edit_list")`: the clip of that recipe in support/media.py or media_kinds.py, made once a session."""
    # Here, so that tests which decode nothing run where no decoder is installed.
    from support.media import BAD_CLIPS
    from support.media_kinds import KINDS

    folder = tmp_path_factory.mktemp("known_clips")
    made: dict[str, KnownClip] = {}

    def clip(name: str) -> "KnownClip":
        if name not in made:
            made[name] = (KINDS | BAD_CLIPS)[name](folder)
        return made[name]

    return clip


@pytest.fixture(scope="module")
def quick_reports() -> Iterator[None]:
    """Reports in a fifth of the time. They hold the first half second of audio, and what they make from a log-mel takes
    one iteration, not 32; whole audio is proven in train/reporting/test_audio.py. Plots are drawn whole, in fewer pixels,
    and without the search for margins in which all texts have room, which takes as long as drawing. Two examples stand
    for eight. The overlay of `cavsync localize` has fewer and smaller frames, and its own tests check it whole. Encoders
    of videos and of audio search less."""
    from cavsync.train.reporting import audio

    mp3_bytes, waveform_of_mel = audio.mp3_bytes, audio.waveform_of_mel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "mp3_bytes", lambda waveform: mp3_bytes(waveform[:8000]))
        patch.setattr(audio, "waveform_of_mel", lambda mel: waveform_of_mel(mel[:50]))
        patch.setattr(audio, "NUM_ITERATIONS", 1)
        patch.setattr("cavsync.train.reporting.images.DPI", 40)
        patch.setattr("cavsync.train.inference.localize.overlay.FPS", 3)
        patch.setattr("cavsync.train.inference.localize.overlay.SIDE_PX", 96)
        patch.setattr("cavsync.train.inference.localize.folder.MAX_FRAMES", 2)
        patch.setattr("cavsync.pipeline.media.encode.H264_OPTIONS", {"preset": "ultrafast", "threads": "1"})
        patch.setattr("cavsync.pipeline.media.encode.AAC_BITS_PER_S", 32_000)
        for protocol, examples in (
            ("segmentation", "ROWS"),
            ("classification", "CLIPS"),
            ("synchrony", "CLIPS"),
        ):
            patch.setattr(f"cavsync.train.evaluation.{protocol}.report.{examples}_SHOWN", 2)
        patch.setattr("matplotlib.figure.Figure.get_layout_engine", lambda figure: None)
        yield


@pytest.fixture(scope="module")
def quick_decoders() -> Iterator[None]:
    """Decoder processes that begin at once; see support/processes/forked_decoder.py."""
    from support.processes.forked_decoder import fork_decoders

    with pytest.MonkeyPatch.context() as patch:
        fork_decoders(patch)
        yield


@pytest.fixture(scope="module")
def float32_inference() -> Iterator[None]:
    """`--precision auto` is float32 on every processor, so that figures do not depend on where tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cavsync.train.engine.device.has_fast_bfloat16", lambda device: False)
        yield
