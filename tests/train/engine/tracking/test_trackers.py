"""Proves that several trackers get a run's numbers, images and configuration, and that a resumed run continues the same."""

import io
import json
import logging
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.command_line import run
from support.known_shards import micro_run
from support.labelled_shards import write_labelled_shards
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cavsync.train.engine.config import ConfigError, MonitorConfig, as_dict
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.engine.tracking import trackers
from cavsync.train.engine.tracking.tracker import TrackedRun, TrackerError
from cavsync.train.engine.tracking.trackers import Trackers, require_installed
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig
from cavsync.train.pretrain.trainer import pretrain

Numbers = dict[tuple[str, int], float]


@dataclass
class Recorded:
    """A tracker in memory; the one with the same key continues."""

    run: TrackedRun
    key: str
    numbers_by_step: Numbers = field(default_factory=dict)
    images: list[tuple[str, int]] = field(default_factory=list)
    endings: list[bool] = field(default_factory=list)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        self.numbers_by_step |= {(f"{group}/{name}", step): value for name, value in values.items()}

    def image(self, name: str, png: bytes, step: int) -> None:
        assert Image.open(io.BytesIO(png)).size[0] > 1
        self.images.append((name, step))

    def close(self, complete: bool) -> None:
        self.endings.append(complete)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Recorded]]:
    """The trackers that were opened in place of wandb's and mlflow's, in order."""
    found: dict[str, list[Recorded]] = {"wandb": [], "mlflow": []}

    def opening(name: str) -> Any:
        def kind(run: TrackedRun, key: str | None) -> Recorded:
            found[name].append(Recorded(run, key or f"{name}-{len(found[name])}"))
            return found[name][-1]

        return kind

    for name in found:
        monkeypatch.setitem(trackers.KINDS, name, opening(name))
    monkeypatch.setattr(trackers, "find_spec", lambda name: "installed")
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("shards"))


def tracked(shards: Path, *sets: str) -> PretrainConfig:
    """Two steps, each logged, with a validation at the end."""
    monitor = PretrainMonitorConfig(every_steps=2, num_images=1, curves=True)
    return apply_overrides(micro_run(shards, num_steps=2, monitor=monitor), sets)


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_several_trackers_get_all_of_a_run_and_a_resumed_run_continues_them(
    shards: Path, tmp_path: Path, recorded: dict[str, list[Recorded]]
) -> None:
    config = tracked(shards, "monitor.tracker=tensorboard,wandb,mlflow", "monitor.project=trials")
    pretrain(config, tmp_path / "mine", device="cpu")
    pretrain(replace(config, num_steps=4), tmp_path / "mine", device="cpu", resume=True)
    lines = logged(tmp_path / "mine")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for name, (first, second) in recorded.items():
        assert (first.key, second.key) == (f"{name}-0", f"{name}-0")
        assert (first.run.project, first.run.name, first.run.steps_done) == ("trials", "mine", 0)
        assert second.run.steps_done == 2
        # The dataset's statistics are resolved.
        assert first.run.config["data"]["mel_mean"] == -5.0
        assert second.run.config["num_steps"] == 4
        numbers = first.numbers_by_step | second.numbers_by_step
        for line in lines:
            assert numbers["train/loss", line["step"]] == line["loss"]
        last = json.loads((tmp_path / "mine" / "validation.jsonl").read_text().splitlines()[-1])
        for figure in ("r1_audio_to_video", "effective_rank_audio"):
            assert numbers[f"validation/{figure}", 4] == numbers[f"final/{figure}", 4] == last[figure]
        assert second.images == [("reconstructions", 4), ("curves", 4)]
        assert (first.endings, second.endings) == ([True], [True])
    events = EventAccumulator(str(tmp_path / "mine" / "tensorboard"))
    events.Reload()
    assert [one.value for one in events.Scalars("train/loss")] == pytest.approx(
        [line["loss"] for line in lines]
    )
    assert "config/text_summary" in events.Tags()["tensors"]


@pytest.mark.usefixtures("quick_reports")
def test_the_figures_of_a_report_follow_in_the_run_that_made_the_weights(
    shards: Path, tmp_path: Path, recorded: dict[str, list[Recorded]], caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "mine"
    monitor = PretrainMonitorConfig(tracker=("mlflow",), every_steps=None, curves=False)
    pretrain(micro_run(shards, num_steps=1, monitor=monitor), run_dir, device="cpu")
    evaluate = ("eval", "retrieval", "--json", "--checkpoint")
    result = run(*evaluate, run_dir)
    assert result.exit_code == 0, result.output
    trained, evaluated = recorded["mlflow"]
    assert evaluated.key == trained.key
    figures = {name: one["value"] for name, one in json.loads(result.stdout)["figures"].items()}
    assert figures
    assert evaluated.numbers_by_step == {
        (f"retrieval-test/{name}", 1): value for name, value in figures.items()
    }
    # A checkpoint may be that of a run that goes on, whose trackers are open.
    assert run(*evaluate, run_dir / "checkpoints" / "last.pt").exit_code == 0
    assert len(recorded["mlflow"]) == 2
    (run_dir / "trackers.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert run(*evaluate, run_dir).exit_code == 0
    assert "The figures of retrieval-test are not tracked: " in caplog.text


def test_a_tracker_that_fails_gets_nothing_more_and_the_others_all(
    tmp_path: Path, recorded: dict[str, list[Recorded]], caplog: pytest.LogCaptureFixture
) -> None:
    opened = Trackers(("wandb", "mlflow"), of_run(tmp_path))
    broken, whole = recorded["wandb"][0], recorded["mlflow"][0]

    def fail(*given: object) -> None:
        raise ConnectionError("no route to host")

    opened.numbers("train", {"loss": 1.0}, 1)
    broken.numbers = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        opened.numbers("train", {"loss": 2.0}, 2)
    opened.close(True, 2)
    assert "The tracker wandb failed at step 2 and gets nothing more: no route to host" in caplog.text
    assert (broken.endings, whole.endings) == ([], [True])
    assert whole.numbers_by_step == {("train/loss", 1): 1.0, ("train/loss", 2): 2.0}


def test_a_tracker_that_cannot_begin_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: TrackedRun, key: str | None) -> Recorded:
        raise RuntimeError("api_key not configured")

    monkeypatch.setitem(trackers.KINDS, "wandb", refuse)
    with pytest.raises(
        TrackerError, match=r"tracker wandb cannot begin: api_key not configured\. Mend that, or leave"
    ):
        Trackers(("wandb",), of_run(tmp_path))


def test_a_tracker_that_is_not_installed_is_refused_before_the_run_begins(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trackers, "find_spec", lambda name: None if name in ("wandb", "mlflow") else "installed"
    )
    with pytest.raises(
        TrackerError, match=r"names wandb, mlflow, .* pip install wandb mlflow, or leave it out"
    ):
        pretrain(tracked(shards, "monitor.tracker=tensorboard,wandb,mlflow"), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    require_installed(("tensorboard", "trackio"))


def test_damaged_keys_are_refused_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_text("{")
    with pytest.raises(TrackerError, match=r"trackers.json is damaged .* remove it"):
        Trackers(("tensorboard",), of_run(tmp_path))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("monitor.tracker=wandb,wandb", "names a tracker twice"),
        ("monitor.tracker=neptune", "is not of type"),
        ("monitor.project=", "monitor.project is empty"),
    ],
)
def test_a_tracker_that_cannot_be_meant_is_refused(tmp_path: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(micro_run(tmp_path), [assignment])


def test_none_tracks_nothing() -> None:
    assert apply_overrides(micro_run(Path()), ["monitor.tracker=none"]).monitor.trackers == ()
    assert MonitorConfig().trackers == ("tensorboard",)


def of_run(folder: Path, steps_done: int = 0) -> TrackedRun:
    config = as_dict(micro_run(folder))
    return TrackedRun(run_dir=folder, project="trials", config=config, steps_done=steps_done)


# The libraries themselves, where they are installed: offline, a run of two steps, stopped and resumed.


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder, in a current folder of its own; nothing leaves the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def track_twice(name: Any, run_dir: Path) -> str:
    """Tracks steps 1 and 2, the first of them again after a resumption; returns the key."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(buffer, "PNG")
    for steps_done in (0, 1):
        opened = Trackers((name,), of_run(run_dir, steps_done))
        opened.numbers("train", {"loss": 3.0 - steps_done, "step": steps_done + 1}, steps_done + 1)
        opened.numbers("retrieval-test", {"R@1 of d'": 50.0}, steps_done + 1)
        opened.image("reconstructions", buffer.getvalue(), steps_done + 1)
        opened.close(complete=steps_done == 1, step=steps_done + 1)
        assert opened.failed == ()
    keys: dict[str, str] = json.loads((run_dir / "trackers.json").read_text())
    return keys[name]


@pytest.mark.filterwarnings("default")
def test_trackio_keeps_both_halves_in_one_run(offline: Path) -> None:
    pytest.importorskip("trackio")
    key = track_twice("trackio", offline)
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = Api().runs("trials")
    assert run.name == key == "mine"
    assert run.config["optimizer.lr"] == 0.01
    lines = SQLiteStorage.get_logs("trials", key)
    assert [(one["step"], one["train/loss"]) for one in lines if "train/loss" in one] == [(1, 3.0), (2, 2.0)]
    assert [one["step"] for one in lines if "reconstructions" in one] == [1, 2]


@pytest.mark.filterwarnings("default")
def test_mlflow_keeps_both_halves_in_one_run(offline: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    key = track_twice("mlflow", offline)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("trials")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (key, "mine", "FINISHED")
    assert run.data.params["optimizer.lr"] == "0.01"
    assert [(one.step, one.value) for one in client.get_metric_history(key, "train/loss")] == [
        (1, 3.0),
        (2, 2.0),
    ]
    assert client.get_run(key).data.metrics["retrieval-test/R_1 of d_"] == 50.0
    assert len([one for one in client.list_artifacts(key, "images") if one.path.endswith(".png")]) == 2


@pytest.mark.filterwarnings("default")
def test_wandb_writes_both_halves_offline_under_one_id(offline: Path) -> None:
    pytest.importorskip("wandb")
    key = track_twice("wandb", offline)
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted((offline / "wandb").glob(f"offline-run-*-{key}/run-{key}.wandb"))
    assert len(files) == 2
    found = []
    for content in (content for file in files for content in wandb_records(file)):
        items = {
            item.key or "/".join(item.nested_key): item.value_json
            for item in Record.FromString(content).history.item
        }
        if "train/loss" in items:
            found.append((json.loads(items["step"]), json.loads(items["train/loss"])))
    assert found == [(1, 3.0), (2, 2.0)]


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of an offline run: a LevelDB log in blocks of 32 KiB, after a header of 7 bytes."""
    content, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # the rest of a block is empty
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""
