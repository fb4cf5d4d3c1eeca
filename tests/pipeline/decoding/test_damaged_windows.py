"""Proves that damaged files give `embed` windows or a reason: no other error, no crash, no hang."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.field.damaged import CONTAINERS, COPIES, FEW_COPIES, OTHER_CONTAINERS, damaged_copies
from support.media import KnownClip

from cavsync.pipeline.dataset.schema import NUM_MELS, ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import SlidingWindows, Window, WindowSpec

SPEC = WindowSpec(rows=32, step_rows=16, side=32)
NAMES = [*(container.__name__ for container in CONTAINERS), *OTHER_CONTAINERS]


@pytest.mark.parametrize("container", [*CONTAINERS, *OTHER_CONTAINERS.values()], ids=NAMES)
def test_damaged_copies_give_windows_or_a_reason(
    container: Callable[[Path], KnownClip], tmp_path: Path
) -> None:
    whole = container(tmp_path)
    copies = COPIES if container in CONTAINERS else FEW_COPIES
    reasons: dict[Path, str | None] = {}
    lost = []
    with DecoderProcess() as decoder:
        for path in (whole.path, *damaged_copies(whole, tmp_path, copies)):
            try:
                for batch in SlidingWindows(path, SPEC, decoder):
                    for window in batch:
                        check_window(window)
                    reasons[path] = None
            except MediaError as error:
                lost += [path.name] * (error.state in (ClipState.CRASHED, ClipState.TIMEOUT))
                reasons[path] = error.reason
    assert not lost
    assert reasons[whole.path] is None
    assert len(reasons) == copies + 1, "a file gave neither a window nor a reason"
    assert "" not in reasons.values()


def check_window(window: Window) -> None:
    """Whatever was read is a frame or none, and a log-mel or none."""
    assert (window.frame is None) == (window.frame_s is None)
    if window.frame is not None:
        assert Image.open(io.BytesIO(window.frame)).size == (SPEC.side, SPEC.side)
    if window.mel is not None:
        assert window.mel.shape[0] <= SPEC.rows
        assert window.mel.shape[1] == NUM_MELS
        assert np.isfinite(window.mel).all()
