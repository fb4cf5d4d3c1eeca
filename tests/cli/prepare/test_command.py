"""Proves `cavsync prepare` from the command: what it writes and prints, and what a second run does."""

import gc
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset
from click.testing import Result
from PIL import Image
from support.command_line import run
from support.media import KnownClip, write_clip

from cavsync.pipeline.dataset.reader import Dataset, read_mel
from cavsync.pipeline.storage.lock import run_lock

KnownClips = Callable[[str], KnownClip]
SMALL = ("--num-frames", "4", "--frame-size", "32")


def prepare(*arguments: str | Path) -> Result:
    return run("prepare", *arguments)


def index(out: Path) -> pd.DataFrame:
    tables = [pd.read_parquet(path) for path in sorted((out / "index").iterdir())]
    return pd.concat(tables, ignore_index=True)


def content(out: Path) -> dict[str, bytes]:
    """Everything that must not depend on when or how a dataset was made."""
    files = [
        *(out / "shards").iterdir(),
        *(out / "index").iterdir(),
        out / "dataset.json",
        out / "plan.parquet",
    ]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def videos(known_clip: KnownClips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files, some in a sub-folder, one with a name that is no key."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    write_clip(folder / "short.mp4", 2.0)
    write_clip(folder / "more" / "My clip, v1.2 (é).mkv", 2.0)
    write_clip(folder / "more" / "short.mp4", 1.5)
    write_clip(folder / "-dash_.mp4", 1.2)
    write_clip(folder / "blink.mp4", 0.32)
    for name in ("no_audio", "no_video", "not_a_video", "truncated"):
        (folder / f"{name}.mp4").symlink_to(known_clip(name).path)
    (folder / "notes.txt").write_text("no video by its name")
    return folder


@pytest.fixture(scope="module")
def dataset(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    result = prepare("folder", videos, "--out", out, "--shard-size", "3", "--max-failure-rate", "1", *SMALL)
    assert result.exit_code == 0, result.output
    for line in ("9 videos in", "Planned 9 clips in 3 shards: 9 with a video.", "9 listed clips"):
        assert line in result.output
    return out


def test_every_file_ends_in_one_state_with_its_reason(dataset: Path) -> None:
    rows = index(dataset).set_index("clip_id")
    assert rows["state"].to_dict() == {
        "short": "ok",
        "-dash_": "ok",
        **{name: "ok" for name in rows.index if name.startswith(("My_clip", "short-"))},
        "blink": "too_short",
        "no_audio": "no_audio",
        "no_video": "no_video",
        "not_a_video": "decode_error",
        "truncated": "decode_error",
    }
    assert rows["reason"].isna().equals(rows["state"] == "ok")
    assert rows.loc["no_audio", "video_codec"] == "h264"
    assert Dataset.open(dataset).summary["states"] == rows["state"].value_counts().to_dict()


def test_a_file_whose_name_is_no_key_gets_a_key(dataset: Path) -> None:
    rows = index(dataset)
    assert rows["key"].is_unique
    assert rows["key"].str.fullmatch(r"[A-Za-z0-9_-]+_00000000").all()
    assert sum(rows["clip_id"].str.startswith("My_clip__v1_2____-")) == 1


# webdataset leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_shards(dataset: Path) -> None:
    shards = sorted(map(str, (dataset / "shards").iterdir()))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    rows = index(dataset).query("state == 'ok'").set_index("key")
    gc.collect()
    assert [sample["__key__"] for sample in samples] == rows.index.tolist()
    for sample in samples:
        assert [sample[f"{n:02d}.jpg"].size for n in range(4)] == [(32, 32)] * 4
        assert sample["mel.npy"].shape == (rows.loc[sample["__key__"], "num_mel_rows"], 128)
        assert sample["json"]["frame_pts_s"] == rows.loc[sample["__key__"], "frame_pts_s"].tolist()


def test_the_index_gives_the_offset_of_every_byte(dataset: Path) -> None:
    for tar_path in (dataset / "shards").iterdir():
        raw = tar_path.read_bytes()
        with tarfile.open(tar_path) as tar:
            stored = {one.name: raw[one.offset_data : one.offset_data + one.size] for one in tar.getmembers()}
        table = pd.read_parquet(dataset / "index" / f"{tar_path.stem}.parquet")
        for row in table[table["state"] == "ok"].to_dict("records"):
            frames = zip(row["frame_offset"], row["frame_size"], strict=True)
            parts = [raw[start : start + size] for start, size in frames]
            parts += [
                raw[int(row[f"{part}_offset"]) :][: int(row[f"{part}_size"])] for part in ("json", "mel")
            ]
            names = [*(f"{n:02d}.jpg" for n in range(4)), "json", "mel.npy"]
            assert parts == [stored[f"{row['key']}.{name}"] for name in names]
            assert zlib.crc32(b"".join(parts)) == row["crc32"]
            assert Image.open(io.BytesIO(parts[0])).size == (32, 32)


def test_statistics_are_those_of_the_stored_log_mels(dataset: Path) -> None:
    values = []
    for tar_path in (dataset / "shards").iterdir():
        with tarfile.open(tar_path) as tar:
            files = [tar.extractfile(one) for one in tar.getmembers() if one.name.endswith(".npy")]
            values += [read_mel(file.read()).astype(float).ravel() for file in files if file]
    summary = Dataset.open(dataset).summary
    assert summary["mel_mean"] == pytest.approx(np.concatenate(values).mean(), abs=1e-3)
    assert summary["mel_std"] == pytest.approx(np.concatenate(values).std(), abs=1e-3)


def test_the_configuration_is_kept(dataset: Path) -> None:
    summary = Dataset.open(dataset).summary
    assert summary["config"]["num_frames"] == 4
    assert summary["splits"] == {"train": "train"}
    assert "av" in summary["versions"]


def test_a_second_run_makes_nothing_and_reports_it(dataset: Path, videos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()}
    result = prepare(
        "folder", videos, "--out", dataset, "--shard-size", "3", "--max-failure-rate", "1", *SMALL
    )
    assert result.exit_code == 0
    assert "All 9 clips are prepared already." in result.output
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "lost", ["shards/train-00001.tar", "index/train-00001.parquet", "done/train-00001.json"]
)
def test_only_missing_shards_are_made_again_byte_for_byte(lost: str, dataset: Path, videos: Path) -> None:
    before = content(dataset)
    kept = [dataset / "shards" / f"train-0000{n}.tar" for n in (0, 2)]
    times = [path.stat().st_mtime_ns for path in kept]
    (dataset / lost).unlink()
    (dataset / "shards" / ".train-00001.tar.killed.tmp").write_bytes(b"half a shard")
    result = prepare(
        "folder", videos, "--out", dataset, "--shard-size", "3", "--max-failure-rate", "1", *SMALL
    )
    assert "6 clips are prepared already." in result.output
    assert content(dataset) == before
    assert [path.stat().st_mtime_ns for path in kept] == times


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--shard-size", "3", "--num-frames", "8", "--frame-size", "32"), "num_frames was 4 and is now 8"),
        (("--shard-size", "4", *SMALL), "shard_size was 3 and is now 4"),
        (("--shard-size", "3", "--crop", "none", *SMALL), "crop was 'centre' and is now 'none'"),
    ],
)
def test_other_options_on_the_same_folder_are_refused(
    options: tuple[str, ...], complaint: str, dataset: Path, videos: Path
) -> None:
    result = prepare("folder", videos, "--out", dataset, *options)
    assert result.exit_code == 1
    assert complaint in " ".join(result.output.split())
    assert "another --out" in " ".join(result.output.split())


def test_other_videos_on_the_same_folder_are_refused(dataset: Path, known_clip: KnownClips) -> None:
    result = prepare("folder", known_clip("plain").path.parent, "--out", dataset, "--shard-size", "3", *SMALL)
    assert result.exit_code == 1
    assert "videos was" in result.output


def test_too_many_failures_end_with_code_3(dataset: Path, videos: Path) -> None:
    result = prepare(
        "folder", videos, "--out", dataset, "--shard-size", "3", "--max-failure-rate", "0.2", *SMALL
    )
    assert result.exit_code == 3
    assert "55.6% of the videos could not be prepared, more than --max-failure-rate 0.2" in result.output
    assert f"`cavsync data status {dataset} --failed` lists each with its reason" in result.output


def test_json_lines_hold_the_same_facts(dataset: Path, videos: Path) -> None:
    options = ("--shard-size", "3", "--max-failure-rate", "1", *SMALL)
    result = prepare("folder", videos, "--out", dataset, "--json", *options)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0] == {"event": "start", "clips": 9, "done": 9}
    assert events[-1]["event"] == "end"
    assert sum(events[-1]["states"].values()) == events[-1]["listed"] == 9


def test_a_run_that_is_going_on_is_named(dataset: Path, videos: Path) -> None:
    with run_lock(dataset):
        result = prepare("folder", videos, "--out", dataset, "--shard-size", "3", *SMALL)
    assert result.exit_code == 1
    assert "is being prepared by process" in " ".join(result.output.split())


def test_the_lock_of_a_dead_process_is_taken_over(dataset: Path, videos: Path) -> None:
    with run_lock(dataset):
        holder = json.loads((dataset / ".lock").read_text())
    gone = holder | {"pid": 2**22 + 1}  # above the kernel's highest pid
    (dataset / ".lock").write_text(json.dumps(gone))
    result = prepare(
        "folder", videos, "--out", dataset, "--shard-size", "3", "--max-failure-rate", "1", *SMALL
    )
    assert result.exit_code == 0
    assert not (dataset / ".lock").exists()


def test_a_fraction_of_a_folder_can_be_kept_for_tests(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(12):
        (tmp_path / "videos" / f"{number}.mp4").symlink_to(videos / "short.mp4")
    result = prepare(
        "folder", tmp_path / "videos", "--out", tmp_path / "out", "--test-fraction", "0.4", *SMALL
    )
    assert result.exit_code == 0, result.output
    data = Dataset.open(tmp_path / "out")
    assert data.split_names("test") == ["test"]
    assert len(data.index("train")) + len(data.index("test")) == 12


def audioset_root(folder: Path, videos: Path) -> Path:
    raw = folder / "raw" / "audioset"
    (raw / "videos").mkdir(parents=True)
    rows = [
        '--a_b, 0.000, 10.000, "/m/1,/m/2"',
        'gone, 30.000, 40.000, "/m/2"',
        '--a_b, 0.000, 10.000, "/m/1"',
    ]
    (raw / "eval_segments.csv").write_text("\n".join(["# made for a test", *rows, ""]))
    (raw / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/2,"Bark, loud"\n1,/m/1,Speech\n'
    )
    (raw / "videos" / "--a_b_000000.mp4").symlink_to(videos / "short.mp4")
    return folder


def test_audioset_is_prepared_from_its_list(tmp_path: Path, videos: Path) -> None:
    root = audioset_root(tmp_path, videos)
    result = prepare("audioset", "--root", root, *SMALL)
    assert result.exit_code == 0, result.output
    assert "eval_segments.csv: 3 clips (the published list has 20,371)" in result.output
    data = Dataset.open(root / "data" / "audioset")
    assert data.summary["states"] == {"duplicate": 1, "missing": 1, "ok": 1}
    assert data.summary["splits"] == {"eval": "test"}
    assert data.summary["labels"] == ["/m/2", "/m/1"]
    assert data.summary["label_names"] == ["Bark, loud", "Speech"]
    assert data.index("test")["labels"].tolist()[0].tolist() == ["/m/1", "/m/2"]


def test_labels_without_a_class_are_reported_before_the_work_starts(tmp_path: Path, videos: Path) -> None:
    root = audioset_root(tmp_path, videos)
    (root / "raw" / "audioset" / "class_labels_indices.csv").write_text(
        "index,mid,display_name\n0,/m/2,Bark\n"
    )
    result = prepare("audioset", "--root", root, *SMALL)
    assert "none of the 1 classes, so that no classifier can be trained: 1 (/m/1)." in result.output


def test_vggsound_is_prepared_from_its_list(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "v.csv").write_text('a_b,0,"woman speaking, female",train\nc,4,dog,test\n')
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a_b.mp4").symlink_to(videos / "short.mp4")
    paths = ("--list", tmp_path / "v.csv", "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    result = prepare("vggsound", *paths, *SMALL)
    assert result.exit_code == 0, result.output
    summary = Dataset.open(tmp_path / "out").summary
    assert summary["labels"] == ["dog", "woman speaking, female"]
    assert summary["splits"] == {"train": "train", "test": "test"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("folder", "{tmp}/nowhere", "--out", "{tmp}/o"), 1, "nowhere is no folder"),
        (
            ("folder", "{tmp}", "--out", "{tmp}/o"),
            1,
            "holds no video (looked for avi, m4v, mkv, mov, mp4, webm",
        ),
        (("audioset", "--root", "{tmp}"), 1, "No list of AudioSet in {tmp}/raw/audioset"),
        (("audioset", "--root", "{tmp}"), 1, "eval_segments.csv from http://storage.googleapis.com"),
        (("vggsound", "--root", "{tmp}", "--list", "{tmp}/no.csv"), 1, "no.csv is no file"),
        (("vggsound", "--root", "{tmp}", "--list", "{tmp}/empty.csv"), 1, "empty.csv lists no clip"),
        (("vggsound", "--root", "{tmp}", "--list", "{tmp}/one.csv"), 1, "No videos of VGGSound"),
        (("folder", "{tmp}", "--out", "{tmp}/o", "--num-frames", "0"), 2, "num_frames=0 cannot be used"),
        (("folder", "{tmp}", "--out", "{tmp}/o", "--crop", "left"), 2, "'left' is not one of"),
        (("folder", "{tmp}"), 2, "Missing option '--out'"),
    ],
)
def test_wrong_inputs_are_named(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("# nothing\n")
    (tmp_path / "one.csv").write_text("abc,0,dog,test\n")
    result = prepare(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.exit_code == code, result.output
    output = "".join(result.output.replace("│", "").split())  # boxes break lines anywhere
    assert "".join(message.format(tmp=tmp_path).split()) in output
    assert "Traceback" not in result.output


def test_a_broken_row_stops_the_plan(tmp_path: Path, videos: Path) -> None:
    root = audioset_root(tmp_path, videos)
    with (root / "raw" / "audioset" / "eval_segments.csv").open("a") as file:
        file.write("../../x, 0.0, 10.0, y\n")
    result = prepare("audioset", "--root", root)
    assert result.exit_code == 1
    assert "eval_segments.csv, line 5: '../../x' is no id" in " ".join(result.output.split())
    assert not (root / "data" / "audioset" / "plan.parquet").exists()


def test_a_list_without_any_video_is_no_dataset(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "v.csv").write_text("abc,30,dog,test\n")
    result = prepare("vggsound", "--list", tmp_path / "v.csv", "--videos", videos, "--out", tmp_path / "out")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "holds the video of none of the 1 listed clips" in output
    assert "abc_000030.mp4, abc_30.000.mp4, abc_30000_40000.mp4, abc.mp4" in output


def test_a_full_disk_is_an_error_not_a_traceback(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cavsync.pipeline.storage.atomic.publish", full)
    result = prepare("folder", videos, "--out", tmp_path / "out", *SMALL)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert not list((tmp_path / "out").rglob("*.tar"))
