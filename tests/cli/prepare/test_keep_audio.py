"""Proves `cavsync prepare --keep-audio`: the file in a sample has the clip's audio at the clip's times, and the dataset knows of it.

The source's audio is a chirp whose phase gives the time. Files are read back by libsndfile and by the ffmpeg program,
neither of which wrote them.
"""

import base64
import gc
import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import webdataset
from click.testing import Result
from rich.filesize import decimal
from support.command_line import output_text, run
from support.media import chirp, lag_s, no_audio, run_ffmpeg, write_clip
from support.prepared import data, flip, index_rows, rewrite_index, rewrite_record, shard_of

from cavsync.pipeline.dataset.index_row import KEPT_COLUMNS
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import ClipContent, Dataset
from cavsync.pipeline.media.audio import resampled
from cavsync.pipeline.media.mel import log_mel
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.store import ClipStore
from cavsync.train.data.stream.clip import read_clips
from cavsync.train.data.stream.shards import Shard

SMALL = ("--num-frames", "4", "--frame-size", "32", "--max-failure-rate", "1")
# The best correlation with the source is found in whole samples; half of one at 16 kHz is less.
TOLERANCE_S = 1 / 48_000
LATE_S = 0.5
OK = ("middle", "aac", "late", "exact")
# Largest error of a sample whose source is PCM: rounding to 16 bits, the ripple of resampling, the quantisation of Opus.
ERRORS = {"exact": 2**-14, "resampled": 0.002, "opus": 0.1}
# Codec, rate, and the samples a second of the file that has 44,100.
CHOICES = [
    ("flac", "source", 44_100),
    ("flac", "16000", 16_000),
    ("flac", "48000", 48_000),
    ("opus", "source", 48_000),
    ("opus", "16000", 16_000),
    ("opus", "48000", 48_000),
]


@dataclass(frozen=True)
class Kept:
    """A dataset that was prepared with --keep-audio."""

    out: Path
    codec: str
    rate: str
    rate_hz: int  # of clips whose video has 44,100 Hz

    def read(self, key: str) -> tuple[np.ndarray, int]:
        """float64 (channels, samples) and the sample rate, as libsndfile reads the member of the tar."""
        samples, rate_hz = soundfile.read(io.BytesIO(self.member(key)), always_2d=True)
        return samples.T, rate_hz

    def member(self, key: str) -> bytes:
        row = index_rows(self.out)[key]
        content = (self.out / "shards" / f"{shard_of(self.out, key)}.tar").read_bytes()
        return content[row["audio_offset"] :][: row["audio_size"]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with 44.1 kHz mono, but for `exact`, which has 48 kHz stereo in 16 bits: half as loud and inverted on the right."""
    root = tmp_path_factory.mktemp("kept")
    folder = root / "videos"
    folder.mkdir()
    write_clip(folder / "long.mov", 7.0, audio_codec="pcm_s16le")
    write_clip(folder / "aac.mp4", 7.0)
    write_clip(folder / "late.mov", 2.0, audio_codec="pcm_s16le", audio_start_s=LATE_S)
    no_audio(folder)
    write_clip(root / "mono.mkv", 1.5, sample_rate=48_000, audio_codec="pcm_s16le")
    right = ("-filter_complex", "[0:a]volume=-0.5[r];[0:a][r]join=inputs=2:channel_layout=stereo[a]")
    streams = ("-map", "0:v", "-map", "[a]", "-c:v", "copy", "-c:a", "pcm_s16le")
    run_ffmpeg("-i", root / "mono.mkv", *right, *streams, folder / "exact.mkv")
    rows = ["id,file,start_s,end_s", "middle,long.mov,3.21,5.7", "late,late.mov,0,2", "exact,exact.mkv,0,1.5"]
    rows.append("aac,aac.mp4,3.21,5.7")
    (root / "list.csv").write_text("\n".join([*rows, "none,no_audio.mp4,0,1.5", ""]))
    return root


def clip_of(out: Path, key: str) -> ClipContent:
    dataset = Dataset.open(out)
    return dataset.clip(dataset.index("train").set_index("key").loc[key])


def prepare(videos: Path, out: Path, *options: str) -> Result:
    paths = (videos / "list.csv", "--videos", videos / "videos", "--out", out)
    return run("prepare", "manifest", *paths, *SMALL, *options)


@pytest.fixture(scope="module", params=CHOICES, ids=lambda choice: f"{choice[0]}-{choice[1]}")
def kept(request: pytest.FixtureRequest, videos: Path) -> Kept:
    codec, rate, rate_hz = request.param
    out = videos / f"{codec}-{rate}"
    result = prepare(videos, out, "--keep-audio", codec, "--keep-audio-rate", rate)
    assert result.exit_code == 0, result.output
    return Kept(out, codec, rate, rate_hz)


@pytest.fixture(scope="module")
def flac(videos: Path) -> Kept:
    """FLAC at the source's rate, which is what --keep-audio flac means alone."""
    out = videos / "flac"
    if not out.exists():
        result = prepare(videos, out, "--keep-audio", "flac")
        assert result.exit_code == 0, result.output
    return Kept(out, "flac", "source", 44_100)


@pytest.mark.parametrize(
    ("key", "start_s"), [("middle_00003210", 3.21), ("aac_00003210", 3.21), ("late_00000000", 0.0)]
)
def test_the_file_has_the_clips_audio_at_the_clips_times(kept: Kept, key: str, start_s: float) -> None:
    (audio,), rate_hz = kept.read(key)
    row = index_rows(kept.out)[key]
    assert (rate_hz, row["kept_codec"], row["kept_channels"]) == (kept.rate_hz, kept.codec, 1)
    assert row["kept_rate_hz"] == kept.rate_hz
    assert len(audio) == round(row["duration_s"] * rate_hz)
    expected = chirp(start_s + np.arange(len(audio)) / rate_hz)
    missing = round((LATE_S if key.startswith("late") else 0.0) * rate_hz)
    expected[:missing] = 0.0
    assert abs(lag_s(audio, expected, rate_hz)) <= TOLERANCE_S
    if not key.startswith("aac"):
        edge = rate_hz // 50  # filters ring where the audio begins and ends
        resampling = "exact" if kept.rate == "source" else "resampled"
        error = ERRORS["opus" if kept.codec == "opus" else resampling]
        assert np.abs(audio - expected)[missing + edge : -edge].max() < error
        assert np.abs(audio[: max(0, missing - edge)]).max(initial=0.0) < error


def test_the_ffmpeg_program_gives_as_many_samples_at_the_same_times(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / f"a.{kept.codec}").write_bytes(kept.member("middle_00003210"))
    raw = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / f"a.{kept.codec}")]
    command = [*raw, "-f", "f32le", "-"]
    audio = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)
    rate_hz = 48_000 if kept.codec == "opus" else kept.rate_hz  # what Opus is decoded at
    duration_s = index_rows(kept.out)["middle_00003210"]["duration_s"]
    assert len(audio) == pytest.approx(duration_s * rate_hz, abs=2)
    assert abs(lag_s(audio, chirp(3.21 + np.arange(len(audio)) / rate_hz), rate_hz)) <= TOLERANCE_S


def test_a_clip_without_audio_ends_as_it_does_without_the_option(kept: Kept) -> None:
    rows = pd.concat(map(pd.read_parquet, sorted((kept.out / "index").iterdir()))).set_index("clip_id")
    assert rows["state"].to_dict() == {**dict.fromkeys(OK, "ok"), "none": "no_audio"}
    assert rows.loc["none", list(KEPT_COLUMNS)].isna().all()


def test_both_channels_are_kept(kept: Kept) -> None:
    audio, rate_hz = kept.read("exact_00000000")
    assert rate_hz == {"source": 48_000}.get(kept.rate, kept.rate_hz)
    assert len(audio) == 2
    left, right = (np.sqrt(np.mean(channel**2)) for channel in audio)
    assert right == pytest.approx(left / 2, rel=0.1)
    assert np.corrcoef(audio)[0, 1] < -0.98


# webdataset leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_samples(kept: Kept) -> None:
    shards = sorted(map(str, (kept.out / "shards").iterdir()))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    gc.collect()
    assert sorted(sample["__key__"] for sample in samples) == sorted(index_rows(kept.out))
    for sample in samples:
        assert sample[kept.codec] == kept.member(sample["__key__"])
        assert sample["mel.npy"].shape[1] == 128


def test_whole_datasets_validate(kept: Kept) -> None:
    result = data("validate", kept.out)
    assert result.exit_code == 0, result.output


def test_flac_of_16_bits_is_exact(flac: Kept, videos: Path, tmp_path: Path) -> None:
    audio, rate_hz = soundfile.read(io.BytesIO(flac.member("exact_00000000")), dtype="int16")
    run_ffmpeg("-i", videos / "videos" / "exact.mkv", "-vn", tmp_path / "exact.wav")
    expected, expected_hz = soundfile.read(tmp_path / "exact.wav", dtype="int16")
    assert rate_hz == expected_hz == 48_000
    assert np.array_equal(audio, expected)


def test_the_log_mel_follows_from_the_kept_channel(flac: Kept) -> None:
    for key, row in index_rows(flac.out).items():
        audio, rate_hz = flac.read(key)
        channel = resampled(audio[row["audio_channel"]].astype(np.float32), rate_hz)
        stored = clip_of(flac.out, key).mel.astype(np.float32)
        computed = log_mel(channel)[: len(stored)]
        loud = stored[: len(computed)] > -4  # 16 bits hide the rest
        assert loud.mean() > 0.02
        assert np.abs(computed - stored[: len(computed)])[loud].max() < 0.05


def test_the_public_door_gives_the_file(flac: Kept) -> None:
    assert clip_of(flac.out, "late_00000000").audio == flac.member("late_00000000")


def test_training_reads_shards_with_audio(flac: Kept) -> None:
    store = ClipStore(Dataset.open(flac.out), "train", check_crc=True)
    stored = {store[clip].key: store[clip].mel() for clip in range(len(store))}
    assert sorted(stored) == sorted(index_rows(flac.out))
    tar = next((flac.out / "shards").iterdir())
    shard = Shard(url=str(tar), first=0, positions=range(len(OK)), num_stored=len(OK))
    assert sorted(clip.key for clip in read_clips(shard, 0, len(OK))) == sorted(stored)


def test_another_choice_is_refused_in_a_folder_that_has_one(flac: Kept, videos: Path) -> None:
    same = prepare(videos, flac.out, "--keep-audio", "flac", "--keep-audio-rate", "source")
    assert same.exit_code == 0, same.output
    for options, message in (
        ((), "keep_audio was 'flac' and is now None"),
        (("--keep-audio", "opus"), "keep_audio was 'flac' and is now 'opus'"),
        (("--keep-audio", "flac", "--keep-audio-rate", "16000"), "keep_audio_rate was 'source' and is now"),
    ):
        result = prepare(videos, flac.out, *options)
        assert result.exit_code == 1
        assert message in output_text(result)
    assert Dataset.open(flac.out).summary["config"]["keep_audio"] == "flac"


def test_a_rate_without_audio_to_keep_is_wrong_usage(videos: Path) -> None:
    result = prepare(videos, videos / "never", "--keep-audio-rate", "16000")
    assert result.exit_code == 2
    assert "--keep-audio flac or opus" in output_text(result)
    assert not (videos / "never").exists()


def test_a_subset_carries_the_audio_and_merging_with_a_dataset_without_is_refused(
    flac: Kept, videos: Path, tmp_path: Path
) -> None:
    result = data("subset", flac.out, "--out", tmp_path / "part", "--keep", "kept_channels = 2")
    assert result.exit_code == 0, result.output
    part = Kept(tmp_path / "part", "flac", "source", 48_000)
    assert part.member("exact_00000000") == flac.member("exact_00000000")
    assert data("validate", tmp_path / "part").exit_code == 0
    assert prepare(videos, tmp_path / "plain").exit_code == 0
    refused = data("merge", flac.out, tmp_path / "plain", "--out", tmp_path / "all")
    assert refused.exit_code == 1
    assert f"keep_audio is 'flac' in {flac.out} and None in {tmp_path / 'plain'}" in output_text(refused)


def test_status_and_statistics_count_the_bytes(flac: Kept, tmp_path: Path) -> None:
    num_bytes = sum(row["audio_size"] for row in index_rows(flac.out).values())
    assert f"{decimal(num_bytes)} of it audio" in output_text(data("status", flac.out))
    text = output_text(data("stats", flac.out, "--out", tmp_path))
    assert "flac, 44,100 Hz, mono (3), flac, 48,000 Hz, stereo (1)" in text
    assert f"audio {decimal(num_bytes)}" in text


def test_pages_play_the_kept_file_when_the_video_is_gone(flac: Kept, tmp_path: Path) -> None:
    out = Path(shutil.copytree(flac.out, tmp_path / "out"))
    rewritten = {"source": "/nowhere/late.mov"}
    shard = shard_of(out, "late_00000000")
    rewrite_index(out, shard, lambda rows: [row.update(rewritten) for row in rows])
    result = data("show", out, "--key", "late_00000000", "--out", tmp_path / "page")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page" / "contact-sheet.html").read_text()
    encoded = base64.b64encode(flac.member("late_00000000")).decode()
    assert f'src="data:audio/flac;base64,{encoded}"' in page


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"kept_rate_hz": 22_050}, "samples, not "),
        ({"kept_channels": 3}, "samples, not 3 x"),
        ({"kept_codec": "opus"}, "its audio is kept as flac, but the index says opus"),
        (dict.fromkeys(KEPT_COLUMNS), "its audio is kept as flac, but the index says none"),
    ],
)
def test_an_index_that_says_otherwise_of_the_audio_is_found(
    flac: Kept, tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    out = Path(shutil.copytree(flac.out, tmp_path / "out"))
    shard = shard_of(out, "late_00000000")
    rewrite_index(out, shard, lambda rows: [row.update(change) for row in rows if row["state"] == "ok"])
    result = data("validate", out, "--quick")
    assert result.exit_code == 1
    assert fault in output_text(result)


def test_changed_bytes_of_the_audio_are_found(flac: Kept, tmp_path: Path) -> None:
    out = Path(shutil.copytree(flac.out, tmp_path / "out"))
    key = "late_00000000"
    flip(out / "shards" / f"{shard_of(out, key)}.tar", index_rows(out)[key]["audio_offset"] + 900)
    assert f"{key}: its bytes have changed" in output_text(data("validate", out))


def test_a_dataset_from_before_the_option_is_read_checked_and_continued(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "old"
    assert prepare(videos, out).exit_code == 0
    paths = DatasetPaths(out)
    for shard in Dataset.open(out).summary["shards"]:
        table = pq.read_table(paths.index(shard))
        pq.write_table(table.drop_columns(list(KEPT_COLUMNS)), paths.index(shard))
        rewrite_record(out, shard, index_sha256=sha256(paths.index(shard)))
    assert data("validate", out).exit_code == 0
    assert clip_of(out, "late_00000000").audio is None
    assert len(ClipStore(Dataset.open(out), "train", check_crc=True)[0].mel())
    assert "All 5 clips are prepared already" in output_text(prepare(videos, out))
