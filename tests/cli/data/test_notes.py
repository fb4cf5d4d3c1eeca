"""Proves that clips with gaps, a silent first channel, turned frames or non-square pixels are counted and named by the
commands that make and inspect a dataset."""

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command_line import output_text, run
from support.media import run_ffmpeg, write_clip
from support.prepared import data

SECONDS = 3.0
OPTIONS = ("--num-frames", "4", "--frame-size", "32")
NOTES = {
    "audio_channel_1": ["right_00000000"],
    "audio_gaps": ["late_audio_00000000"],
    "frame_gaps": ["late_frames_00000000"],
    "mirrored": ["mirror_00000000"],
    "non_square_pixels": ["wide_00000000"],
    "silent": [],
    "still": [],
    "turned": ["phone_00000000"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain clip and one of each note, named after it; the stream that comes late does so by 1 s."""
    root = tmp_path_factory.mktemp("videos")
    plain = write_clip(root / "plain.mp4", SECONDS).path
    write_clip(root / "late_audio.mkv", SECONDS, audio_start_s=1.0)
    late_frames_s = [1 + number / 25 for number in range(50)]
    write_clip(root / "late_frames.mkv", SECONDS, frame_times_s=late_frames_s)
    right = ("-c:v", "copy", "-c:a", "aac", "-af", "pan=stereo|c0=0*c0|c1=c0")
    run_ffmpeg("-i", plain, *right, root / "right.mp4")
    run_ffmpeg("-display_hflip", "-i", plain, "-c", "copy", root / "mirror.mp4")
    run_ffmpeg("-display_rotation", "90", "-i", plain, "-c", "copy", root / "phone.mp4")
    run_ffmpeg("-i", plain, "-c:a", "copy", "-vf", "setsar=2/1", root / "wide.mp4")
    return root


def prepare(videos: Path, out: Path, *options: str) -> str:
    arguments = ["prepare", "folder", str(videos), "--out", str(out), *OPTIONS, *options]
    result = run(*arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return output_text(result)


@pytest.fixture(scope="module")
def out(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    prepare(videos, out)
    return out


def test_the_end_of_a_preparation_counts_gaps_and_other_channels(videos: Path, out: Path) -> None:
    text = prepare(videos, out)
    assert "Clips in state ok that lack parts: audio in 1 clip, frames in 1 clip." in text
    assert "--set data.max_gap_s=SECONDS" in text
    assert "another was stored (counted from 0): channel 1 in 1 clip. --audio-channel mean" in text
    counts = {note: len(keys) for note, keys in NOTES.items() if keys}
    assert json.loads((out / "dataset.json").read_text())["notes"] == counts
    end = run("prepare", "folder", videos, "--out", out, *OPTIONS, "--json")
    assert json.loads(end.stdout.splitlines()[-1])["notes"] == counts


def test_a_preparation_without_such_clips_ends_without_the_lines(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "plain.mp4").hardlink_to(videos / "plain.mp4")
    text = prepare(tmp_path / "videos", tmp_path / "out")
    assert "lack parts" not in text
    assert "audio channel is silent" not in text


def test_statistics_name_the_clips_of_each_note(out: Path, tmp_path: Path) -> None:
    report = json.loads(data("stats", out, "--out", tmp_path, "--json").stdout)
    assert report["notes"] == NOTES
    page = Path(report["page"]).read_text()
    assert "Clips with gaps in their audio: 1" in page
    assert "Clips with the audio of channel 1, counted from 0: 1" in page
    assert "late_frames_00000000" in page
    assert "audio gaps 1: late_audio_00000000" in output_text(data("stats", out, "--out", tmp_path))


def test_the_status_counts_the_notes(out: Path) -> None:
    assert "audio channel 1 (1), audio gaps (1), frame gaps (1)" in output_text(data("status", out))
    status = json.loads(data("status", out, "--json").stdout)
    assert status["notes"] == {note: len(keys) for note, keys in NOTES.items() if keys}


@pytest.mark.parametrize(
    ("key", "fact"),
    [
        ("late_frames_00000000", "0.00 to 1.00 s"),
        ("right_00000000", "audio channel 1"),
        ("wide_00000000", "160 x 120, pixels 2 to 1"),
        ("mirror_00000000", "mirrored"),
    ],
)
def test_the_page_of_a_clip_has_its_notes_and_gaps(out: Path, tmp_path: Path, key: str, fact: str) -> None:
    assert data("show", out, "--key", key, "--out", tmp_path).exit_code == 0
    assert fact in (tmp_path / "contact-sheet.html").read_text()


def test_index_and_tar_say_where_a_clip_lacks_something(out: Path) -> None:
    rows = pq.read_table(out / "index").to_pylist()
    with tarfile.open(out / "shards" / "train-00000.tar") as tar:
        for row in rows:
            member = tar.extractfile(f"{row['key']}.json")
            assert member is not None
            described = json.load(member)
            for column in ("audio_gaps_s", "frame_gaps_s"):
                assert (column in described) == bool(row[column])
                assert described.get(column, []) == row[column]
    (frames,) = (row["frame_gaps_s"] for row in rows if row["key"] in NOTES["frame_gaps"])
    assert frames == [pytest.approx([0.0, 1.0], abs=0.001)]
    (audio,) = (row["audio_gaps_s"] for row in rows if row["key"] in NOTES["audio_gaps"])
    # AAC begins with up to two frames of 1024 samples before its first sample.
    assert audio == [pytest.approx([0.0, 1.0], abs=0.05)]


def test_clips_with_notes_and_without_labels_are_valid(out: Path) -> None:
    assert data("validate", out).exit_code == 0
