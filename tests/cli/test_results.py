"""Proves where commands write: never in place of results of other inputs, and with one message where the disk refuses."""

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.command_line import output_text, run
from support.known_shards import micro_run
from support.media import KnownClip
from support.sabotage.disks import fill, read_only, small_disk

from cavsync.train.data.config import DataConfig
from cavsync.train.pretrain.trainer import pretrain


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests copy."""
    folder = tmp_path_factory.mktemp("trained") / "runs" / "micro"
    config = micro_run(labelled, data=DataConfig(path=str(labelled), mel_mean=-5.0, mel_std=4.0))
    pretrain(config, folder, device="cpu")
    return folder


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def prepared(known_clip: Callable[[str], KnownClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one video, as `cavsync prepare` makes it."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "videos").mkdir()
    shutil.copy(known_clip("plain").path, root / "videos")
    result = run("prepare", "folder", root / "videos", "--out", root / "data", "--num-frames", "2")
    assert result.exit_code == 0, result.output
    return root / "data"


def succeeded(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return output_text(result)


def refused(result: Result, *parts: object) -> None:
    """One message with all of these parts, and no traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert result.output.count("Error: ") == 1
    # The terminal breaks long paths at hyphens too.
    text = output_text(result)
    for part in parts:
        assert str(part) in text


# Results of other inputs.


def test_a_report_of_other_data_gets_a_folder_of_its_own_and_the_same_inputs_refresh(
    run_folder: Path, labelled: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(labelled, tmp_path / "other")
    arguments = ("eval", "retrieval", "--checkpoint", run_folder, "--split", "test", "--data")
    first = run_folder / "retrieval-test"
    succeeded(*arguments, labelled)
    pages = [(first / name).read_bytes() for name in ("report.html", "report.json", "ranks.parquet")]
    text = succeeded(*arguments, other)
    assert f"{first} holds results of other inputs; these go to {first}-2." in text
    assert [(first / name).read_bytes() for name in ("report.html", "report.json", "ranks.parquet")] == pages
    record = json.loads((run_folder / "retrieval-test-2" / "report.json").read_text())
    assert record["inputs"]["data"]["path"] == str(other)
    before = (first / "report.html").stat().st_mtime_ns
    succeeded(*arguments, labelled)
    assert (first / "report.html").stat().st_mtime_ns > before
    assert sorted(path.name for path in run_folder.glob("retrieval-*")) == [
        "retrieval-test",
        "retrieval-test-2",
    ]


def test_a_page_names_its_inputs_and_its_date_in_its_head(
    run_folder: Path, labelled: Path, tmp_path: Path
) -> None:
    succeeded(
        "eval", "retrieval", "--checkpoint", run_folder, "--out", tmp_path / "out", "--aggregation", "max"
    )
    head = (tmp_path / "out" / "report.html").read_text().partition("<h2")[0]
    for part in (
        "cavsync eval retrieval",
        str(run_folder / "model.safetensors"),
        str(labelled),
        "split test",
        "aggregation max",
        "mel_mean -5.0",
        "<dt>made</dt><dd>20",
    ):
        assert part in head


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--aggregation", "max"), "options.aggregation was diagonal-mean, is now max"),
        (("--split", "train"), "options.split was test, is now train"),
        (("--set", "mel_mean=-4.0"), "preprocessing.mel_mean was -5.0, is now -4.0"),
    ],
    ids=["choice", "split", "statistics"],
)
def test_a_named_folder_of_other_inputs_is_refused_before_the_work(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    difference: str,
) -> None:
    arguments = ("eval", "retrieval", "--checkpoint", run_folder, "--out", tmp_path / "out")
    written_report(tmp_path / "out", arguments, monkeypatch)
    forbid_scoring(monkeypatch)
    refused(
        run(*arguments, *options), difference, tmp_path / "out" / "report.html", "Give another with --out"
    )


def written_report(folder: Path, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command leaves, with the page's head alone: scoring is not what these tests are about."""
    from cavsync.cli.evaluate import retrieval
    from cavsync.train.reporting.page import write_page

    class HeadWrittenError(Exception):
        pass

    def stop_after_the_head(out: Any, default: Any, page: str, inputs: Any) -> Path:
        write_page("page.html.j2", folder / page, "Retrieval", "", inputs)
        raise HeadWrittenError

    with monkeypatch.context() as patched:
        patched.setattr(retrieval, "results_folder", stop_after_the_head)
        assert isinstance(run(*arguments).exception, HeadWrittenError)


def forbid_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(*_: object) -> None:
        pytest.fail("the work began")

    monkeypatch.setattr("cavsync.train.evaluation.retrieval.gallery_embeddings.embed_gallery", scored)


def test_a_page_that_says_nothing_of_its_inputs_is_not_replaced(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("precious")
    refused(
        run("eval", "retrieval", "--checkpoint", run_folder, "--out", tmp_path),
        "report.html is there, does not say what it is of, and would be lost",
    )
    assert (tmp_path / "report.html").read_text() == "precious"


def test_a_sheet_of_other_clips_gets_a_folder_of_its_own(prepared: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared, tmp_path / "data"))
    for number, folder in (("1", "show"), ("2", "show-2"), ("1", "show")):
        text = succeeded("data", "show", data, "--num", number)
        assert f"{data / folder / 'contact-sheet.html'}" in text
    assert not (data / "show-3").exists()


def test_a_comparison_of_other_reports_gets_a_page_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    reports = [tmp_path / name for name in ("a", "b", "c")]
    succeeded("eval", "retrieval", "--checkpoint", run_folder, "--out", reports[0])
    for other in reports[1:]:
        shutil.copytree(reports[0], other)
    assert "Report: compare.html" in succeeded("eval", "compare", *reports[:2])
    assert "Report: compare-2.html" in succeeded("eval", "compare", *reports[1:])
    assert "Report: compare.html" in succeeded("eval", "compare", *reports[:2])
    refused(
        run("eval", "compare", *reports, "--out", "compare.html"),
        "compare.html is of other inputs",
    )


def test_embeddings_of_other_files_or_settings_are_not_replaced_and_a_grown_folder_is(
    run_folder: Path, known_clip: Callable[[str], KnownClip], tmp_path: Path
) -> None:
    videos, others = tmp_path / "videos", tmp_path / "others"
    for folder, name in ((videos, "a.mp4"), (others, "b.mp4")):
        folder.mkdir()
        shutil.copy(known_clip("plain").path, folder / name)
    out = tmp_path / "x.parquet"
    arguments = ("embed", videos, "--out", out, "--checkpoint", run_folder, "--step", "0.32")
    succeeded(*arguments)
    before = out.read_bytes()
    refused(run("embed", others, *arguments[2:]), f"{out} holds other embeddings", "a.mp4", others)
    refused(run(*arguments[:-1], "0.16"), "their step_s is 0.32, now it is 0.16")
    refused(run(*arguments, "--set", "mel_mean=-4"), "their mel is", "Name another file with --out")
    assert out.read_bytes() == before
    shutil.copy(known_clip("plain").path, videos / "b.mp4")
    assert "2 files" in succeeded(*arguments)
    page = tmp_path / "found.html"
    search = ("search", videos / "a.mp4", "--in", out, "--checkpoint", run_folder, "--html", page)
    succeeded(*search, "--limit", "1")
    succeeded(*search, "--limit", "1")
    refused(run(*search, "--limit", "2"), "options.limit was 1, is now 2", "--html")


def test_saved_embeddings_of_other_clips_are_not_replaced(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "saved.parquet"
    out.write_bytes(b"precious")
    arguments = ("eval", "retrieval", "--checkpoint", run_folder, "--out", tmp_path / "out")
    refused(
        run(*arguments, "--save-embeddings", out), f"{out} is there and would be lost", "--save-embeddings"
    )
    assert out.read_bytes() == b"precious"


# Disks that refuse.


def writing_commands(run_folder: Path, prepared: Path, clip: Path, to: Path) -> Iterator[tuple[object, ...]]:
    """Every kind of command that writes, with its results below `to`."""
    checkpoint = ("--checkpoint", run_folder)
    yield "eval", "retrieval", *checkpoint, "--out", to / "report"
    yield "eval", "retrieval", *checkpoint, "--out", run_folder / "new", "--save-embeddings", to / "x.parquet"
    yield "eval", "synchrony", *checkpoint, "--out", to / "report"
    yield "eval", "synchrony", *checkpoint, "--video", clip, "--out", to / "report"
    yield "localize", clip, *checkpoint, "--out", to / "localized"
    yield "embed", clip, *checkpoint, "--out", to / "x.parquet"
    yield "checkpoint", "export", run_folder, to / "x.pth"
    yield "checkpoint", "export", run_folder, to / "programs", "--format", "torch-export"
    yield "checkpoint", "import", run_folder, to / "x.safetensors"
    yield "data", "stats", prepared, "--out", to / "stats"
    yield "data", "show", prepared, "--out", to / "show"
    yield "train", "pretrain", "--preset", "tiny", "--data", prepared, "--run", to / "run"
    yield "train", "probe", "--data", prepared, "--from", run_folder, "--run", to / "run"
    yield "demo", "--out", to / "demo"
    yield "demo", "--only-world", to / "world"


def test_every_command_refuses_a_read_only_folder_with_one_message(
    run_folder: Path, prepared: Path, known_clip: Callable[[str], KnownClip], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    with read_only(tmp_path / "disk") as disk:
        for command in writing_commands(run_folder, prepared, known_clip("plain").path, disk):
            refused(run(*command), f"Error: {disk}", "cannot be written: Read-only file system")


def test_every_command_refuses_a_path_below_a_file_with_one_message(
    run_folder: Path, prepared: Path, known_clip: Callable[[str], KnownClip], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    for command in writing_commands(run_folder, prepared, known_clip("plain").path, tmp_path / "file"):
        refused(
            run(*command), f"Error: {tmp_path / 'file'}", "Not a directory. A part of that path is a file"
        )
    assert (tmp_path / "file").read_text() == "precious"


def test_every_command_refuses_a_full_disk_before_its_work(
    run_folder: Path, prepared: Path, known_clip: Callable[[str], KnownClip], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", kilobytes=256) as disk:
        fill(disk)
        for command in writing_commands(run_folder, prepared, known_clip("plain").path, disk):
            refused(run(*command), f"Error: {disk}", "No space left on device. Make room on that disk")
        assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_report_beside_weights_on_a_read_only_disk_names_the_way_out_before_scoring(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_scoring(monkeypatch)
    with read_only(run_folder):
        refused(run("eval", "retrieval", "--checkpoint", run_folder), run_folder / "retrieval-test", "--out")


def test_a_device_is_not_replaced_by_a_file(run_folder: Path, known_clip: Callable[[str], KnownClip]) -> None:
    for command in (
        ("embed", known_clip("plain").path, "--checkpoint", run_folder, "--out", "/dev/full"),
        ("eval", "retrieval", "--checkpoint", run_folder, "--save-embeddings", "/dev/full"),
    ):
        refused(run(*command), "/dev/full is no file that can be replaced")
    assert Path("/dev/full").is_char_device()


def test_a_disk_that_fills_while_results_are_written_keeps_nothing_that_looks_whole(
    run_folder: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """96 KiB take the trial of 64 KiB at the start, and none of these results, with plots of their full size."""
    monkeypatch.setattr("cavsync.train.reporting.images.DPI", 110)
    with small_disk(tmp_path / "disk", kilobytes=96) as disk:
        for command, name in (
            (("eval", "retrieval", "--checkpoint", run_folder, "--out", disk / "report"), "report.html"),
            (("checkpoint", "export", run_folder, disk / "x.pth"), "x.pth"),
            (("checkpoint", "import", run_folder, disk / "x.safetensors"), "x.safetensors"),
            (("data", "show", prepared, "--out", disk / "show"), "contact-sheet"),
        ):
            refused(run(*command), f"Error: {disk}", name, "cannot be written")
            assert {path.name for path in disk.rglob("*") if path.is_file()} <= {"ranks.parquet"}
            gc.collect()  # a command's process would end here, and with it files that it removed and still holds
