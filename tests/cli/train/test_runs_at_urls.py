"""Proves `cavsync train --run s3://...`: a run is written to a store beside training, resumed from there alone, and read there."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from safetensors.torch import load
from support.command_line import output_text
from support.command_line import run as cavsync
from support.labelled_shards import write_labelled_shards
from support.servers.stores import Fault, S3Store
from support.trainings import events, micro, sets, train

from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.pipeline.storage import filesystem


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    with S3Store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        filesystem._connected.cache_clear()  # of another server
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield store


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("data") / "known")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs at URLs work."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def options(dataset: Path, run: str | Path, *more: str | Path) -> list[str | Path]:
    """Two steps, a checkpoint after each."""
    given = micro("--data", dataset, "--run", run, "--no-estimate", *more)
    return [*given, *sets("checkpoint_every_steps=1", "keep_checkpoints=2", "log_every_steps=1")]


@pytest.fixture(scope="module")
def local(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in a folder."""
    folder = tmp_path_factory.mktemp("local") / "run"
    events(*options(dataset, folder))
    return folder


@pytest.fixture(scope="module")
def url(s3: S3Store, dataset: Path) -> str:
    """A complete run of two steps; tests that change it work on another."""
    events(*options(dataset, "s3://bucket/runs/whole"))
    return "s3://bucket/runs/whole"


def copied(s3: S3Store, name: str) -> str:
    """A copy of the complete run."""
    for path, content in s3.files("runs/whole").items():
        s3.put(f"runs/{name}/{path}", content)
    return f"s3://bucket/runs/{name}"


def losses(content: bytes) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in map(json.loads, content.decode().splitlines())]


def assert_same_weights(one: bytes, two: bytes) -> None:
    before, after = load(one), load(two)
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def test_a_store_gets_what_a_folder_gets(s3: S3Store, url: str, local: Path, scratch: Path) -> None:
    there = s3.files("runs/whole")
    here = {str(path.relative_to(local)): path for path in local.rglob("*") if path.is_file()}
    here.pop("checkpoints/last.pt")  # a link, which no store has
    plain = {name for name in here if not name.startswith("tensorboard/")}
    assert {name for name in there if not name.startswith("tensorboard/")} == plain
    assert any(name.startswith("tensorboard/") for name in there)
    assert there["config.json"] == here["config.json"].read_bytes()
    assert losses(there["metrics.jsonl"]) == losses(here["metrics.jsonl"].read_bytes())
    assert_same_weights(there["model.safetensors"], here["model.safetensors"].read_bytes())
    assert not list(scratch.iterdir())


def test_a_run_goes_on_from_its_url_alone(s3: S3Store, url: str, local: Path, tmp_path: Path) -> None:
    """Lengthened there and in a folder: the same weights; and the old checkpoints go."""
    local = shutil.copytree(local, tmp_path / "run", symlinks=True)
    events("pretrain", "--resume", "--run", local, "--steps", "3")
    there = copied(s3, "longer")
    start, *_ = events("pretrain", "--resume", "--run", there, "--steps", "3")
    assert (start["steps_done"], start["url"]) == (2, there)
    files = s3.files("runs/longer")
    assert_same_weights(files["model.safetensors"], (local / "model.safetensors").read_bytes())
    assert_same_weights(files["model-step-000002.safetensors"], s3.files("runs/whole")["model.safetensors"])
    assert [step for step, _ in losses(files["metrics.jsonl"])] == [1, 2, 3]
    checkpoints = sorted(name for name in files if name.startswith("checkpoints/"))
    assert checkpoints == ["checkpoints/step-000002.pt", "checkpoints/step-000003.pt"]


def test_a_url_that_holds_a_run_is_not_overwritten(s3: S3Store, url: str, dataset: Path) -> None:
    before = s3.files("runs/whole")
    result = train(*options(dataset, url))
    assert f"{url} exists and is not overwritten" in str(result.exception)
    assert s3.files("runs/whole") == before


def test_http_takes_no_run(dataset: Path) -> None:
    result = train(*options(dataset, "http://127.0.0.1:9/run"))
    assert "HTTP is read-only" in str(result.exception)


def test_a_store_that_stumbles_costs_nothing(s3: S3Store, url: str, dataset: Path) -> None:
    fault = Fault("PUT /bucket/runs/stumbling/checkpoints/*", 503, times=1)
    with s3.failing(fault):
        events(*options(dataset, "s3://bucket/runs/stumbling"))
    assert fault.seen == 1
    assert s3.files("runs/stumbling").keys() >= {"checkpoints/step-000001.pt", "checkpoints/step-000002.pt"}


def test_a_store_that_fails_ends_the_run_and_loses_nothing(
    s3: S3Store, url: str, dataset: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint is not taken: it stays on the disk, and the run goes on from the first one."""
    monkeypatch.setenv("CAVSYNC_RETRY_TIMEOUT_S", "0.3")
    there = "s3://bucket/runs/failing"
    with s3.failing(Fault("PUT /bucket/runs/failing/checkpoints/step-000002.pt*", 503)):
        result = train(*options(dataset, there))
    message = str(result.exception)
    assert f"{there}/checkpoints/step-000002.pt cannot be written" in message
    (kept,) = scratch.glob("*/failing/checkpoints/step-000002.pt")
    assert str(kept) in message
    assert "checkpoints/step-000002.pt" not in s3.files("runs/failing")
    start, *_ = events("pretrain", "--resume", "--run", there)
    assert start["steps_done"] == 1
    files = s3.files("runs/failing")
    assert_same_weights(files["model.safetensors"], s3.files("runs/whole")["model.safetensors"])
    assert [step for step, _ in losses(files["metrics.jsonl"])] == [1, 2]


def test_a_damaged_checkpoint_is_set_aside(s3: S3Store, url: str) -> None:
    there = copied(s3, "damaged")
    newest = s3.files("runs/damaged")["checkpoints/step-000002.pt"]
    s3.put("runs/damaged/checkpoints/step-000002.pt", newest[:-100])
    start, *_ = events("pretrain", "--resume", "--run", there)
    assert start["steps_done"] == 1
    assert s3.files("runs/damaged")["checkpoints/step-000002.damaged"] == newest[:-100]


# Reading


@pytest.mark.parametrize("name", ["", "/model.safetensors", "/checkpoints/step-000002.pt"])
def test_weights_at_a_url_are_described(url: str, name: str) -> None:
    """With the configuration of their run, which lies beside them."""
    result = cavsync("checkpoint", "inspect", url + name, "--json")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "mel_mean=-5" in json.loads(result.stdout)["inputs"].replace(" ", "")


def test_a_run_at_a_url_is_exported(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.pth"
    result = cavsync("checkpoint", "export", url, out)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert load_model(out).config.embed_dim == 16


def test_an_unfinished_run_gives_its_newest_checkpoint(s3: S3Store, url: str) -> None:
    there = copied(s3, "unfinished")
    s3.delete("runs/unfinished/model.safetensors")
    found: dict[str, Any] = json.loads(cavsync("checkpoint", "inspect", there, "--json").stdout)
    assert found["path"].endswith("checkpoints/step-000002.pt")


def test_a_run_at_a_url_is_evaluated(url: str, dataset: Path, tmp_path: Path) -> None:
    """Also on the dataset that it was trained on, which its config.json names."""
    out = tmp_path / "report"
    result = cavsync("eval", "retrieval", "--checkpoint", url, "--out", out, "--device", "cpu")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert json.loads((out / "report.json").read_text())["data"]["path"] == str(dataset)


def test_a_classifier_is_trained_from_a_url_to_a_url(s3: S3Store, url: str, dataset: Path) -> None:
    fields = sets("batch_size=4", "frames_per_clip=1", "average_epochs=none", "monitor.curves=false")
    options = ("--preset", "probe-tiny", "--from", url, "--data", dataset, "--epochs", "1", *fields)
    result = train("probe", *options, "--run", "s3://bucket/runs/probe")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "Weights: s3://bucket/runs/probe/model.safetensors" in output_text(result)
    files = s3.files("runs/probe")
    assert json.loads(files["config.json"])["initial_weights"] == url
    assert "top1" in json.loads(files["scores.json"])


def test_a_url_without_weights_is_refused(s3: S3Store, url: str) -> None:
    result = cavsync("checkpoint", "inspect", "s3://bucket/nothing")
    assert "s3://bucket/nothing holds neither model.safetensors nor checkpoints" in output_text(result)
