"""Proves that a command without --checkpoint says first which weights it takes, and why, and that search takes those of its file."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import output_text, run
from support.known_shards import write_known_shards
from support.labelled_shards import pretrained, write_labelled_shards
from support.media import KnownClip
from support.trainings import events, micro, sets


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a complete run of two steps."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=6)
    events(*micro("--root", root, "--no-estimate"))
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    return tmp_path


@pytest.fixture
def clip(known_clip: Callable[[str], KnownClip]) -> Path:
    return known_clip("plain").path


def first_line(*arguments: object) -> str:
    """Of the output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()[0]


def add_run(root: Path, name: str, *, newer_by_s: int = 10) -> Path:
    """A run that has saved nothing yet, newer than those that are there."""
    folder = root / "runs" / name
    folder.mkdir()
    config = folder / "config.json"
    shutil.copyfile(root / "runs" / "pretrain-tiny" / "config.json", config)
    newest = max(path.stat().st_mtime for path in (root / "runs").glob("*/config.json"))
    os.utime(config, (newest + newer_by_s, newest + newer_by_s))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("embed", "CLIP", "--out", "ROOT/x.parquet"),
        ("embed", "FOLDER", "--out", "ROOT/x.parquet", "--json"),
        ("localize", "CLIP", "--out", "ROOT/localized", "--map", "denseav"),
        ("eval", "synchrony", "--video", "CLIP", "--out", "ROOT/synchrony"),
        ("eval", "retrieval", "--split", "train", "--out", "ROOT/retrieval"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_first_line_names_the_newest_run(command: tuple[str, ...], root: Path, clip: Path) -> None:
    (root / "videos").mkdir()
    shutil.copyfile(clip, root / "videos" / "clip.mp4")
    words = {"CLIP": str(clip), "FOLDER": str(root / "videos")}
    arguments = [words.get(one, one.replace("ROOT", str(root))) for one in command]
    line = first_line(*arguments, "--root", root, "--device", "cpu")
    runs = root / "runs"
    assert line.startswith(
        f"Checkpoint: {runs}/pretrain-tiny/model.safetensors, a pretrained model of preset tiny, "
    )
    assert line.endswith(f"step 2: the newest run under {runs}.")


def test_a_checkpoint_that_is_given_is_not_announced(root: Path, clip: Path) -> None:
    given = ("--checkpoint", root / "runs" / "pretrain-tiny", "--device", "cpu")
    assert "Checkpoint:" not in first_line("embed", clip, "--out", root / "x.parquet", *given)


def test_a_newer_run_without_weights_is_named_and_passed_over(root: Path, clip: Path) -> None:
    new = add_run(root, "new")
    line = first_line("embed", clip, "--out", root / "x.parquet", "--root", root)
    assert line.endswith(f"step 2: the newest run under {root / 'runs'}; {new} has saved nothing yet.")
    shutil.copytree(root / "runs" / "pretrain-tiny" / "checkpoints", new / "checkpoints", symlinks=True)
    line = first_line("embed", clip, "--out", root / "later.parquet", "--root", root)
    assert (
        f"{new}/checkpoints/last.pt, a pretrained model of preset tiny, step 2 of a run that is not" in line
    )
    shutil.rmtree(root / "runs" / "pretrain-tiny")
    shutil.rmtree(new / "checkpoints")
    result = run("embed", clip, "--out", root / "x.parquet", "--root", root)
    assert result.exit_code == 1
    assert "has the run saved anything yet?" in output_text(result)


def test_a_classification_takes_the_newest_classifier(root: Path) -> None:
    data, weights = write_labelled_shards(root / "data"), pretrained(root)
    options = [
        "--preset",
        "probe-tiny",
        "--data",
        data,
        "--from",
        weights,
        "--batch-size",
        "4",
        "--epochs",
        "1",
    ]
    events("probe", *options, "--root", root, *sets("validation_split=none"))
    add_run(root, "new")
    line = first_line("eval", "classification", "--root", root, "--split", "train", "--out", root / "out")
    assert line == (
        f"Checkpoint: {root}/runs/probe-tiny/model.safetensors, a classifier of preset probe-tiny, step 2: the newest run "
        f"that trained a classifier under {root}/runs."
    )


# Search


@pytest.fixture
def embedded(root: Path, clip: Path) -> Path:
    """A clip embedded by the run, beside a newer run."""
    run("embed", clip, "--out", root / "x.parquet", "--root", root)
    newer = add_run(root, "new")
    (newer / "model.safetensors").write_bytes(b"of other weights")
    return root / "x.parquet"


def test_search_takes_the_checkpoint_that_embedded_its_file(embedded: Path, root: Path, clip: Path) -> None:
    weights = root / "runs" / "pretrain-tiny" / "model.safetensors"
    line = first_line("search", clip, "--in", embedded, "--root", root)
    assert line == (
        f"Checkpoint: {weights}, a pretrained model of preset tiny, step 2: {embedded} was embedded by it."
    )


def test_localize_takes_the_checkpoint_that_embedded_its_calibration(
    embedded: Path, root: Path, clip: Path
) -> None:
    result = run("localize", clip, "--calibrate", embedded, "--root", root, "--out", root / "localized")
    assert result.output.splitlines()[0].endswith(f"{embedded} was embedded by it.")


def test_a_checkpoint_that_moved_is_found_by_its_content(embedded: Path, root: Path, clip: Path) -> None:
    was = root / "runs" / "pretrain-tiny"
    moved = was.rename(root / "runs" / "renamed")
    line = first_line("search", clip, "--in", embedded, "--root", root)
    assert line.startswith(f"Checkpoint: {moved / 'model.safetensors'}, ")
    assert line.endswith(f"{embedded} was embedded by it, when it was {was / 'model.safetensors'}.")


@pytest.mark.parametrize(
    ("content", "state"), [(None, "is not there any more"), (b"x", "is another file now")]
)
def test_a_checkpoint_that_is_gone_is_named(
    content: bytes | None, state: str, embedded: Path, root: Path, clip: Path
) -> None:
    weights = root / "runs" / "pretrain-tiny" / "model.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    result = run("search", clip, "--in", embedded, "--root", root)
    assert result.exit_code == 1
    text = output_text(result)
    assert (
        f"was embedded by the checkpoint {weights}, which {state}, and no run under {root}/runs has it"
        in text
    )
    assert "Give it with --checkpoint, or embed the videos again." in text


def test_search_takes_the_fields_that_were_set_when_its_file_was_made(root: Path, clip: Path) -> None:
    """A file in the published layout does not say that the model has two heads."""
    run("checkpoint", "export", root / "runs" / "pretrain-tiny" / "model.safetensors", root / "x.pth")
    index, fields = root / "x.parquet", ("--set", "num_heads=2")
    embedded = run("embed", clip, "--out", index, "--checkpoint", root / "x.pth", *fields, "--json")
    assert embedded.exit_code == 0, embedded.output
    result = run("search", clip, "--in", index, "--root", root, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["hits"]
