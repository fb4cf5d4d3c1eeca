"""Proves that a checkpoint written in the background shares nothing with what training changes, and that its errors are raised."""

import threading

import pytest
import torch

from cavsync.errors import CavsyncError
from cavsync.train.engine.saving.background import BackgroundWriter, snapshot


def test_a_snapshot_shares_no_memory_with_what_training_changes() -> None:
    state = {"weights": {"a": torch.ones(3)}, "groups": [{"lr": 0.1, "params": [torch.zeros(2)]}], "step": 4}
    copied = snapshot(state)
    state["weights"]["a"].fill_(7)
    state["groups"][0]["params"][0].fill_(7)
    state["groups"][0]["lr"] = 0.2
    assert copied["weights"]["a"].tolist() == [1, 1, 1]
    assert copied["groups"] == [{"lr": 0.1, "params": [pytest.approx([0, 0])]}]
    assert copied["step"] == 4


def test_one_write_runs_at_a_time_and_its_error_is_raised_by_the_next_call() -> None:
    writer, order, first_may_end = BackgroundWriter(), [], threading.Event()

    def fail() -> None:
        first_may_end.wait(60)
        order.append("first")
        raise CavsyncError("the disk is full")

    writer.start(fail)
    writer.require_no_error()  # it runs still
    threading.Timer(0.05, first_may_end.set).start()
    with pytest.raises(CavsyncError, match="the disk is full"):
        writer.start(lambda: order.append("second"))
    assert order == ["first"]
    writer.start(lambda: order.append("third"))
    writer.wait()
    assert order == ["first", "third"]


def test_a_training_that_fails_logs_that_its_checkpoint_failed_too(caplog: pytest.LogCaptureFixture) -> None:
    writer = BackgroundWriter()

    def fail() -> None:
        raise CavsyncError("the disk is full")

    writer.start(fail)
    writer.close()
    assert caplog.messages == ["the disk is full"]
