"""Proves that the examples of README and docs run as they stand, one page after the other, in a newcomer's folder."""

import json
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from datasets import Audio, Video
from PIL import Image
from support.command_line import output_text, run
from support.documents.elsewhere import run_elsewhere
from support.documents.newcomer import train_run, write_media
from support.documents.pages import PAGES, ROOT, blocks
from support.known_shards import micro_model
from support.servers.hub_of_vits import use_hub
from support.servers.small_hub import small_hub
from torch.utils.data import DataLoader

from cavsync.mteb import MtebEncoder
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.jobs import runner
from cavsync.pipeline.jobs.work import Workers
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embed import embed

# What prepares the datasets that the other examples name.
PREPARATIONS = (
    ("README.md", "prepare folder VIDEOS --out data/mine"),
    ("docs/preparing.md", "prepare audioset --workers 64"),
    ("docs/preparing.md", "prepare folder VIDEOS --out data/with-audio"),
    ("docs/world.md", "prepare vggsound --root world"),
)
# The other commands that are run as printed: those that take seconds at most on a tiny dataset with a micro model.
COMMANDS = (
    ("docs/preparing.md", "prepare audioset --dry-run --workers 64"),
    ("docs/preparing.md", "data status data/audioset --watch"),
    ("docs/preparing.md", "data status data/audioset --failed"),
    ("docs/preparing.md", "data validate data/audioset"),
    ("docs/preparing.md", "data validate data/audioset --fix"),
    ("docs/preparing.md", "data stats data/audioset"),
    ("docs/preparing.md", "data show data/audioset"),
    ("docs/training.md", "config show"),
    ("docs/own-videos.md", "embed VIDEOS"),
    ("docs/own-videos.md", "search bell.wav"),
    ("docs/own-videos.md", "localize holiday.mp4"),
    ("docs/evaluating.md", "eval retrieval"),
    ("docs/evaluating.md", "eval synchrony"),
    ("docs/evaluating.md", "eval synchrony --video talk.mp4"),
)


def printed(page: str, beginning: str) -> list[str]:
    """The arguments of the page's shortest command that begins so."""
    words = beginning.split()
    commands = [command for block in blocks(page, "sh") for command in block.commands()]
    return min((command for command in commands if command[: len(words)] == words), key=len)


def run_as_printed(page: str, beginning: str) -> str:
    result = run(*printed(page, beginning))
    assert result.exit_code == 0, output_text(result)
    return output_text(result)


def run_python(page: str, names: dict[str, object] | None = None) -> dict[str, object]:
    """Executes the page's Python blocks one after the other; returns their names."""
    names = {} if names is None else names
    for block in blocks(page, "python"):
        exec(compile(block.text, f"{page}:{block.line}", "exec"), names)  # noqa: S102 (our own page)
    return names


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, quick_reports: None, quick_decoders: None
) -> Iterator[Path]:
    """The current folder of a newcomer. Shards are made in this process, however many workers a page asks for: Ray takes
    ten seconds to start, and its own tests show that it gives the same bytes."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(
            "cavsync.pipeline.jobs.prepare.run",
            lambda work, workers, on_clips, log: runner.run(work, Workers(), on_clips, log),
        )
        patch.delenv("CAVSYNC_ROOT", raising=False)
        write_media(home)
        for page, beginning in PREPARATIONS:
            run_as_printed(page, beginning)
        shutil.copytree("world/data/vggsound", "data/vggsound")
        train_run(Path("data/vggsound"), Path("runs/mine"))
        yield home


@pytest.mark.parametrize(("page", "beginning"), COMMANDS)
def test_a_command_runs_as_printed(home: Path, page: str, beginning: str) -> None:
    run_as_printed(page, beginning)


def test_the_readme_gives_features_of_a_video_in_ten_lines(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks("README.md", "python")
    assert len([line for line in example.text.splitlines() if line.strip()]) <= 10
    run_python("README.md")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    # A window of 0.32 s begins every 0.16 s, and the last one ends with the video.
    middles_s = np.array([*np.arange(17) * 0.16, 3 - 0.32]) + 0.16
    assert all(abs(float(similarity)) <= 1 for *_, similarity in lines)
    assert [float(time) for time, *_ in lines] == pytest.approx(middles_s, abs=0.05)


def test_features_are_unit_vectors_of_every_window_and_the_frame_in_its_middle(home: Path) -> None:
    (features,) = embed(["holiday.mp4"], LoadedCheckpoint.load("runs/mine"), step_s=0.3)
    shape = len(features.start_s), micro_model().embed_dim
    assert features.audio.shape == features.image.shape == shape
    for vectors in (features.audio, features.image):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features.end_s - features.start_s, micro_model().audio_rows / 100)
    np.testing.assert_allclose(np.diff(features.start_s)[:-1], 0.3)
    np.testing.assert_allclose((features.start_s + features.end_s) / 2, features.frame_s, atol=0.05)


def test_several_videos_are_embedded_as_documented(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_python("docs/own-videos.md")
    assert "nan" not in capsys.readouterr().out


# webdataset leaves the tar that it has read to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_the_index_is_read_as_documented(home: Path) -> None:
    rows = run_python("docs/preparing.md")["rows"]
    assert len(rows) == 5  # type: ignore[arg-type]


class StandInModel:
    """A model of MTEB whose vector of a file is made of its path, and of an image of its number among the items."""

    def encode(self, batches: DataLoader[Any], **_: object) -> np.ndarray:
        items: Any = batches.dataset
        (column,) = items.column_names
        if column == "image":
            return np.stack([self.vector(number) for number in range(len(items))])
        files = items.cast_column(column, {"audio": Audio, "video": Video}[column](decode=False))[column]
        return np.stack([self.vector(file["path"]) for file in files])

    @staticmethod
    def vector(name: object) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(str(name).encode())).normal(size=8)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What MTEB is asked to evaluate; it gives stand-ins of other models, and has no data."""
    models: list[object] = []
    library = SimpleNamespace(
        get_model=lambda name: StandInModel(),
        get_task=lambda name: SimpleNamespace(metadata=name),
        get_tasks=lambda tasks: tasks,
        evaluate=lambda model, tasks: models.append(model),
    )
    monkeypatch.setitem(sys.modules, "mteb", library)
    return models


def test_embeddings_and_a_segmentation_set_are_made_and_scored_as_documented(
    home: Path, evaluated: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    run_python("docs/evaluating.md")
    assert [type(model) for model in evaluated] == [MtebEncoder]
    sources = Dataset.open("data/vggsound").index("test").set_index("key")["source"]
    for _, row in pd.read_parquet("pe-av-large.parquet").iterrows():
        np.testing.assert_array_equal(row["audio"], StandInModel.vector(sources[row["clip"]]))
    ids = [path.stem for path in Path("raw/vggsound/videos").iterdir()]
    Path("list.json").write_text(json.dumps({"data": [{"video_id": one} for one in ids]}))
    for name in ("theirs", "imagebind-huge", "pe-av-large"):
        run_as_printed("docs/evaluating.md", f"eval retrieval --embeddings {name}.parquet")
    last = max(Path().glob("retrieval-list*/report.json"), key=lambda report: report.stat().st_mtime_ns)
    figures = json.loads(last.read_text())["figures"]
    assert {one["value"] for name, one in figures.items() if "R@1" in name} == {100.0}, figures
    shutil.copytree("runs/mine", "world/runs/mine")
    run_as_printed("docs/evaluating.md", "eval segmentation --root world")


def test_the_tutorial_runs_as_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for its world and its training, which the folder has at a tiny size."""
    shutil.copytree("runs/mine", "world/runs/tutorial")
    run_as_printed("docs/tutorial.md", "prepare vggsound")
    run_as_printed("docs/tutorial.md", "eval retrieval")
    names = run_python("docs/tutorial.md")
    plt.close("all")
    embedded, similarity = names["embedded"], np.array(names["similarity"])
    assert similarity.shape == (3, 3)
    np.testing.assert_allclose(
        similarity[1, 2], np.nanmean((embedded[1].audio * embedded[2].image).sum(axis=1)), rtol=1e-5
    )
    assert np.isfinite(np.array(names["heatmap"])).all()
    text = (ROOT / "docs" / "tutorial.md").read_text()
    drawn = re.findall(r'savefig\("(.+)"\)', text)
    assert [f"images/{name}" for name in drawn] == re.findall(r"!\[.+\]\((.+)\)", text)
    for name in drawn:
        # As large as the committed image, which the same code drew, and not of one colour.
        with Image.open(name) as image, Image.open(ROOT / "docs" / "images" / name) as committed:
            assert image.size == committed.size
            assert len(image.convert("RGB").getcolors(image.width * image.height) or []) > 100
    assert "audio → video R@1 " in capsys.readouterr().out


def test_reports_are_compared_as_documented(home: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree("runs/mine", f"runs/{name}")
        retrieval = run("eval", "retrieval", "--checkpoint", f"runs/{name}")
        assert retrieval.exit_code == 0, output_text(retrieval)
    run_as_printed("docs/evaluating.md", "eval compare runs/a/retrieval-test runs/b/retrieval-test")


@pytest.mark.slow
def test_a_model_is_exported_runs_elsewhere_and_goes_to_the_hub_as_documented(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The example runs one of the two encoders; model/checkpoints/export/test_programs.py exports both.
    monkeypatch.setattr("cavsync.model.checkpoints.export.programs.EncoderName", Literal["audio"])
    run_as_printed("docs/exporting.md", "checkpoint export runs/mine out.pth")
    run_as_printed("docs/exporting.md", "checkpoint export runs/mine onnx")
    run_as_printed("docs/exporting.md", "checkpoint export runs/mine mine --format transformers")
    transformers, onnx, hub = blocks("docs/exporting.md", "python")
    for name in ("first.jpg", "second.jpg"):
        Image.new("RGB", (90, 60), "red").save(name)
    printed = run_elsewhere(transformers.text + "\nprint(*audio.shape, *similarity.shape)\n", home)
    assert printed.split() == ["2", str(micro_model().embed_dim), "2", "2"]
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    names: dict[str, Any] = {}
    with small_hub(tmp_path / "hub") as address:
        use_hub(address, tmp_path / "cache", monkeypatch)
        exec(onnx.text + "\n" + hub.text, names)  # noqa: S102 (our own page)
    assert names["global_token"].shape == (1, micro_model().embed_dim)
    assert (tmp_path / "hub" / "model.safetensors").is_file()


def test_every_python_block_is_run_by_a_test_above() -> None:
    pages = {page for page in PAGES if blocks(page, "python")}
    assert pages == {
        f"docs/{name}.md" for name in ("evaluating", "exporting", "own-videos", "preparing", "tutorial")
    } | {"README.md"}
