"""Proves that a dataset whose folder, or whose videos, were moved or copied is continued, repaired and shown as before."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command_line import output_text, prepare, run
from support.media import write_clip
from support.prepared import data, flip
from support.trainings import micro

OPTIONS = ("--shard-size", "2", "--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, a list of them and of one that is not there, and the dataset `mine`."""
    root = tmp_path_factory.mktemp("made")
    (root / "videos" / "more").mkdir(parents=True)
    write_clip(root / "videos" / "a b.mp4", 1.5)
    for name in ("b.mp4", "more/c.mp4"):
        shutil.copy(root / "videos" / "a b.mp4", root / "videos" / name)
    (root / "list.csv").write_text("file,label\na b.mp4,dog\nb.mp4,cat\nmore/c.mp4,dog\nd.mp4,cat\n")
    assert from_list(root, root / "mine")[0] == 0
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it; its dataset was prepared from the videos of `made`."""
    return Path(shutil.copytree(made, tmp_path / "root"))


def from_list(root: Path, out: Path, *options: str | Path, videos: Path | None = None) -> tuple[int, str]:
    found = videos or root / "videos"
    return prepare("manifest", root / "list.csv", "--videos", found, "--out", out, *OPTIONS, *options)


def content(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in [*files, out / "dataset.json"]}


@pytest.mark.parametrize("way", ["renamed", "copied", "linked"])
def test_a_damaged_dataset_is_repaired_under_another_name(
    way: str, made: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere" / "yours"
    out.parent.mkdir()
    {"renamed": shutil.move, "copied": shutil.copytree, "linked": lambda a, b: b.symlink_to(a)}[way](
        root / "mine", out
    )
    flip(out / "shards" / "train-00001.tar", 700)
    assert data("validate", out, "--fix").exit_code == 1
    assert "shards 1 of 2" in output_text(data("status", out))
    code, text = from_list(root, out, videos=made / "videos")
    assert code == 0, text
    assert content(out) == content(made / "mine")
    assert json.loads((out / "dataset.json").read_text())["name"] == "mine"
    assert data("validate", out).exit_code == 0


def test_a_copy_is_trained_on_and_scored_by_its_new_path(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(root / "mine", out)
    shutil.rmtree(root / "mine")
    trained = run("train", *micro("--data", out, "--run", tmp_path / "run", "--no-estimate"))
    assert trained.exit_code == 0, trained.output
    moved = Path(shutil.move(out, tmp_path / "again"))
    where = ("--data", moved, "--split", "train", "--out", tmp_path / "report", "--device", "cpu")
    scored = run("eval", "retrieval", "--checkpoint", tmp_path / "run", *where)
    assert scored.exit_code == 0, scored.output


def test_moved_videos_are_refused_until_that_is_confirmed(made: Path, root: Path) -> None:
    """The shard of before the move keeps its paths in the index, and its clips are played from the new place."""
    out = root / "mine"
    (out / "done" / "train-00001.json").unlink()
    (out / "dataset.json").unlink()
    videos = Path(shutil.move(root / "videos", root / "disk2"))
    code, text = from_list(root, out, videos=videos)
    assert code == 1
    assert f"videos was '{made / 'videos'}' and is now '{videos}'" in text
    assert "If these are the same video files in another place, add --videos-moved" in text
    code, text = from_list(root, out, "--videos-moved", videos=videos)
    assert code == 0, text
    assert "The videos were moved: 3 of 4 planned videos are in" in text
    assert "All 4 clips are prepared already" in from_list(root, out, videos=videos)[1]
    (made / "videos").rename(made / "gone")
    try:
        assert data("show", out, "--out", root / "page").exit_code == 0
    finally:
        (made / "gone").rename(made / "videos")
    page = (root / "page" / "contact-sheet.html").read_text()
    assert str(videos / "more" / "c.mp4") in page
    assert "is no longer there" not in page
    assert data("validate", out).exit_code == 0
    tars = {name: kept for name, kept in content(made / "mine").items() if name.endswith(".tar")}
    assert {name: kept for name, kept in content(out).items() if name.endswith(".tar")} == tars


def test_a_retry_before_a_move_is_continued_after_it(root: Path, made: Path) -> None:
    out, first = root / "mine", root / "first"
    shutil.copytree(made / "videos", first)
    shutil.rmtree(out)
    (first / "b.mp4").write_text("410 Gone")
    assert from_list(root, out, videos=first)[0] == 0
    shutil.copy(made / "videos" / "b.mp4", first / "b.mp4")
    assert from_list(root, out, "--retry-failed", videos=first)[0] == 0
    for path in (*(out / "done").glob("*r1.json"), out / "dataset.json"):
        path.unlink()
    second = Path(shutil.move(first, root / "second"))
    code, text = from_list(root, out, "--videos-moved", videos=second)
    assert code == 0, text
    assert json.loads((out / "dataset.json").read_text())["states"] == {"missing": 1, "ok": 3}
    sources = pq.read_table(out / "plan-r1.parquet")["source"].to_pylist()
    assert all(source.startswith(f"{second}/") for source in sources)


def test_a_folder_with_none_of_the_videos_is_no_new_place(root: Path) -> None:
    other = root / "other"
    other.mkdir()
    shutil.copy(root / "videos" / "b.mp4", other / "else.mp4")
    (root / "list.csv").write_text("file\nelse.mp4\n")
    plan = (root / "mine" / "plan.parquet").read_bytes()
    code, text = from_list(root, root / "mine", "--videos-moved", videos=other)
    assert code == 1
    assert "holds none of the 4 planned videos" in text
    assert (root / "mine" / "plan.parquet").read_bytes() == plan


def test_a_dry_run_after_a_move_leaves_the_plan(root: Path) -> None:
    out = root / "mine"
    for path in (out / "done").iterdir():
        path.unlink()
    plan = (out / "plan.parquet").read_bytes()
    code, text = from_list(root, out, "--videos-moved", "--dry-run")
    assert code == 0, text
    assert "Nothing was written" in text
    assert (out / "plan.parquet").read_bytes() == plan


def test_another_kind_of_input_is_still_refused(root: Path, made: Path) -> None:
    code, text = prepare("folder", made / "videos", "--out", root / "mine", *OPTIONS)
    assert code == 1
    assert "made_from was 'lists' and is now 'folder'" in text


def test_another_described_dataset_is_still_refused(root: Path) -> None:
    described = '[splits]\ntrain = "train"\n[[lists]]\nfile = "list.csv"\nsplit = "train"\n'
    described += 'columns = { file = "file", label = "label" }\n'
    for name in ("one", "two"):
        (root / f"{name}.toml").write_text(f'name = "{name}"\n{described}')
    given = (root / "list.csv", "--videos", root / "videos", "--out", root / "described", *OPTIONS)
    assert prepare("manifest", "--dataset-file", root / "one.toml", *given)[0] == 0
    code, text = prepare("manifest", "--dataset-file", root / "two.toml", *given)
    assert code == 1
    assert "dataset was 'one' and is now 'two'" in text
