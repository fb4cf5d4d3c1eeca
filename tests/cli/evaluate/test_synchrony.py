"""Proves `cavsync eval synchrony` from the command, on a split and on videos of known delay: models that read the
time from images and audio make every figure arithmetic. And its errors."""

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from support import command_line
from support.clock_models import DeafClock, ShardClock, VideoClock, load_instead, similarity
from support.command_line import output_text
from support.known_shards import NUM_FRAMES, micro_model, micro_run, raw_data, write_known_shards
from support.media import KnownClip, run_ffmpeg, silence, write_clip
from support.pages import sound_page
from support.prepared import rewrite_index
from torch import nn

from cavsync.cli.evaluate.synchrony import synchrony as command
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.data.inputs import PUBLISHED_INPUTS
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.dataset import SplitClips
from cavsync.train.evaluation.synchrony.offsets import MIN_AGREEMENT
from cavsync.train.pretrain.trainer import pretrain

NUM_CLIPS, NUM_LISTED = 6, 8  # the fixture lists one missing clip a shard
UseModel = Callable[[nn.Module], nn.Module]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model in no run folder."""
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model()), path)
    return path


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "runs" / "micro"
    pretrain(micro_run(dataset), folder, device="cpu")
    return folder


@pytest.fixture
def use_model(monkeypatch: pytest.MonkeyPatch, run: Path, dataset: Path) -> UseModel:
    """Replaces the model that the command loads, on audio that is not normalised."""

    def use(model: nn.Module) -> nn.Module:
        load_instead(monkeypatch, model, raw_data(dataset))
        return model

    return use


def synchrony(*options: object) -> Result:
    return command_line.run("eval", "synchrony", *options)


def record_of(*options: object) -> dict[str, Any]:
    result = synchrony(*options, "--json")
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


@pytest.fixture(scope="module")
def in_step(
    run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of a clock that is right about the clips of split `train`."""
    out = tmp_path_factory.mktemp("in_step")
    with pytest.MonkeyPatch.context() as patch:
        load_instead(patch, ShardClock(), raw_data(dataset))
        return out, record_of("--checkpoint", run, "--split", "train", "--out", out)


def test_a_clock_in_step_matches_every_frame_and_has_no_delay(in_step: tuple[Path, dict[str, Any]]) -> None:
    out, record = in_step
    assert (record["counts"]["scored"], record["counts"]["listed"]) == (NUM_CLIPS, NUM_LISTED)
    report = record["results"]
    for direction in ("frame_to_window", "window_to_frame"):
        assert report[direction]["top1"]["value"] == 100
        assert report[direction]["top1"]["chance"] == pytest.approx(100 / NUM_FRAMES)
        assert report[direction]["error_s"]["value"] == 0
    apart = np.abs(np.subtract.outer(np.arange(16), np.arange(16))).mean() * 10 / 16
    assert report["frame_to_window"]["error_s"]["chance"] == pytest.approx(apart, abs=0.01)
    curve, known = report["curve"], [value is not None for value in report["curve"]["own"]]
    expected = similarity(np.array(curve["offsets_s"]))[known]
    np.testing.assert_allclose(np.array(curve["own"])[known].astype(float), expected, atol=1e-4)
    delay = report["delay"]
    for name in ("within", "reliable", "reliable_within"):
        assert delay[name]["value"] == 100
    assert delay["median_error_s"]["value"] == pytest.approx(0, abs=0.01)
    # Of the offsets that a clip has, 5 are within 0.25 s.
    assert delay["within"]["chance"] == pytest.approx(100 * 5 / sum(known))
    assert json.loads((out / "report.json").read_text()) == record
    figure = record["figures"]["within a clip: frame → window, error"]
    assert (figure["value"], figure["unit"]) == (0, "s")
    page = (out / "report.html").read_text()
    assert "Similarity by offset" in page
    sound_page(out / "report.html")


def test_shifted_audio_lowers_only_the_clips_own_score_where_clips_are_alike(
    in_step: tuple[Path, dict[str, Any]], use_model: UseModel, run: Path, tmp_path: Path
) -> None:
    report = in_step[1]["results"]
    for shift in ("0.2", "0.5", "1.0", "2.0", "4.0"):
        assert report["shifts"][shift]["num_clips"] == NUM_CLIPS
        assert report["shifts"][shift]["auc"]["value"] == report["shifts"][shift]["own"]["value"] == 100
    # To this clock the audio of all clips is alike: the other clip's audio ties.
    assert (report["other_audio"]["auc"]["value"], report["other_audio"]["own"]["value"]) == (50, 0)
    use_model(ShardClock(knows_clips=True))
    report = record_of("--checkpoint", run, "--split", "train", "--out", tmp_path)["results"]
    assert report["other_audio"]["auc"]["value"] == report["other_audio"]["own"]["value"] == 100


@pytest.mark.parametrize("late_s", [1.3, -2.0])
def test_audio_that_is_late_everywhere_is_found_late_by_that_much(
    late_s: float, use_model: UseModel, run: Path, tmp_path: Path
) -> None:
    use_model(ShardClock(late_s))
    report = record_of("--checkpoint", run, "--split", "train", "--out", tmp_path)["results"]
    for clip in report["clips"]:
        assert clip["delay_s"] == pytest.approx(late_s, abs=0.02)
        assert clip["agreement"] == pytest.approx(1, abs=0.01)
    assert report["delay"]["within"]["value"] == 0
    assert report["delay"]["bias_s"] == pytest.approx(late_s, abs=0.02)


def test_a_collapsed_model_gets_nothing(use_model: UseModel, run: Path, tmp_path: Path) -> None:
    use_model(DeafClock())
    report = record_of("--checkpoint", run, "--split", "train", "--out", tmp_path)["results"]
    assert report["frame_to_window"]["top1"]["value"] == 0
    matched = report["frame_to_window"]
    assert matched["error_s"]["value"] == pytest.approx(matched["error_s"]["chance"])
    assert (report["delay"]["within"]["value"], report["delay"]["reliable"]["value"]) == (0, 0)
    assert report["shifts"]["1.0"]["auc"]["value"] == 50


def test_each_distinct_window_is_encoded_once(use_model: UseModel, run: Path, tmp_path: Path) -> None:
    model = use_model(ShardClock())
    assert isinstance(model, ShardClock)
    record_of("--checkpoint", run, "--split", "train", "--step", "0.5", "--out", tmp_path)
    # 998 rows: windows of 32 rows at 0, 50, ... 950, at the last position (966), and the frames' own 16, the last at 950.
    assert model.num_windows == NUM_CLIPS * (20 + 1 + 15)


def test_synchrony_scores_the_frames_that_the_run_uses(dataset: Path) -> None:
    data = replace(raw_data(dataset), num_frames=4)
    media = list(SplitClips(Dataset.open(dataset), data, micro_model().image_size).read())
    assert len(media) == NUM_CLIPS
    assert {len(one.frames) for one in media} == {len(one.times_s) for one in media} == {4}


def test_clips_that_cannot_be_in_step_are_named_and_counted(
    dataset: Path, use_model: UseModel, run: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(dataset, tmp_path / "data"))

    def mark(rows: list[dict[str, Any]]) -> None:
        rows[0]["silent"], rows[1]["still"] = True, True

    rewrite_index(data, "train-00000", mark)
    use_model(ShardClock())
    out = tmp_path / "out"
    result = synchrony("--checkpoint", run, "--data", data, "--split", "train", "--out", out)
    assert "4 of 8 clips scored; 2 missing, 1 silent, 1 still" in output_text(result)
    report = json.loads((out / "report.json").read_text())
    reasons = {item["item"]: item["reason"] for item in report["counts"]["unusable"]}
    assert reasons["clip000_00000000"] == "no audible audio from beginning to end"
    assert "Clips without a score" in (out / "report.html").read_text()
    assert len(report["results"]["clips"]) == report["counts"]["scored"] == 4


def test_a_run_on_its_own_dataset_needs_no_option_but_the_root(run: Path) -> None:
    result = synchrony("--root", run.parents[1], "--split", "train", "--step", "1")
    assert result.exit_code == 0, result.output
    assert "Synchrony: 6 of 8 clips scored; 2 missing" in output_text(result)
    assert (run / "synchrony-train" / "report.html").is_file()


def test_published_windows_of_4_s_are_11_for_16_frames(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "published.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=416)), path)
    options = ("--data", dataset, "--split", "train", "--out", tmp_path / "out")
    record = record_of("--checkpoint", path, *options)
    assert record["config"]["alignment"] == "upstream"
    for direction in ("frame → window", "window → frame"):
        assert record["figures"][f"within a clip: {direction}"]["chance"] == pytest.approx(100 / 11)
    assert record["results"]["shifts"]["4.0"]["num_clips"] == NUM_CLIPS


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--checkpoint", "RUN"], 1, "has no split 'test'; it has: train"),
        (["--checkpoint", "nowhere"], 1, "nowhere is not there"),
        (["--checkpoint", "WEIGHTS"], 1, "belongs to no run folder"),
        (["--checkpoint", "RUN", "--data", "."], 1, "is no prepared dataset"),
        (["--checkpoint", "RUN", "--split", "train", "--step", "6"], 1, "step_s=6 must lie between 0.01 s"),
        (
            ["--checkpoint", "RUN", "--data", "SHORT", "--split", "train"],
            1,
            "0 of 3 clips scored; 1 missing, 2 one_window",
        ),
        (["--checkpoint", "RUN", "--video", "a.mp4", "--split", "train"], 2, "leave out --data and --split"),
        (["--checkpoint", "RUN", "--video", "nowhere.mp4"], 1, "nowhere.mp4 cannot be used: it is not there"),
        (["--checkpoint", "RUN", "--video", "TEXT"], 1, "cannot be used: it is text"),
        (["--min-agreement", "1.5"], 2, "less than or equal to 1"),
    ],
)
def test_wrong_usage_is_refused_in_one_message(
    options: list[str],
    code: int,
    message: str,
    run: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("410 Gone")
    short = write_known_shards(tmp_path / "short", num_clips=2, rows=32)
    paths = {"RUN": run, "WEIGHTS": weights, "SHORT": short, "TEXT": tmp_path / "text.mp4"}
    result = synchrony(*(paths.get(option, option) for option in options))
    assert result.exit_code == code
    assert message in output_text(result)
    assert "Traceback" not in result.output


def test_a_model_of_whole_clips_is_refused(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=1024)), path)
    result = synchrony("--checkpoint", path, "--data", dataset, "--split", "train")
    assert result.exit_code == 1
    assert "encodes 10.24 s of audio at once, a whole clip" in output_text(result)


def test_the_commands_defaults_are_the_configurations() -> None:
    defaults = {name: one.default for name, one in inspect.signature(command).parameters.items()}
    config = SynchronyConfig()
    assert (defaults["max_offset"], defaults["step"]) == (config.max_offset_s, config.step_s)
    assert defaults["min_agreement"] == config.min_agreement == MIN_AGREEMENT


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 12.0)


def delayed(clip: KnownClip, path: Path, late_s: float) -> Path:
    """The same frames and the same audio, stamped `late_s` later."""
    source = ("-i", clip.path, "-itsoffset", f"{late_s}", "-i", clip.path)
    run_ffmpeg(*source, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    return path


@pytest.fixture
def use_video_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    load_instead(monkeypatch, VideoClock(PUBLISHED_INPUTS))


@pytest.mark.usefixtures("use_video_clock")
@pytest.mark.parametrize(
    ("late_s", "verdict", "sentence"),
    [
        (0.0, "in step", "The audio is in step with the video"),
        (1.3, "late", "The audio comes 1.3"),
        (-0.8, "early", "before its frames"),
    ],
)
def test_the_delay_of_a_video_is_found(
    late_s: float, verdict: str, sentence: str, clip: KnownClip, weights: Path, tmp_path: Path
) -> None:
    video = delayed(clip, tmp_path / "late.mp4", late_s)
    options = ("--checkpoint", weights, "--video", video, "--out", tmp_path / "out")
    record = record_of(*options)
    report = record["results"]
    # The clock of the stand-in is right within a frame, which is 0.04 s.
    assert report["peak"]["delay_s"] == pytest.approx(late_s, abs=0.05)
    assert record["figures"]["delay of the audio"]["value"] == report["peak"]["delay_s"]
    assert report["peak"]["agreement"] > 0.95
    assert report["verdict"] == verdict
    assert sentence in report["sentence"]
    assert "Each frame by itself" in (tmp_path / "out" / "report.html").read_text()
    sound_page(tmp_path / "out" / "report.html")
    assert output_text(synchrony(*options)).count(" ".join(report["sentence"].split())) == 1


@pytest.mark.usefixtures("use_video_clock")
def test_audio_of_another_video_gets_no_delay(clip: KnownClip, weights: Path, tmp_path: Path) -> None:
    scrambled = tmp_path / "scrambled.mp4"
    # Seconds 0-3, 3-6, ... of the audio in another order: each piece wants another delay.
    pieces = [f"[0:a]atrim={s}:{s + 3},asetpts=PTS-STARTPTS[s{s}]" for s in (0, 3, 6, 9)]
    order = "[s9][s0][s6][s3]concat=n=4:v=0:a=1[out]"
    graph = ";".join([*pieces, order])
    run_ffmpeg(
        "-i", clip.path, "-filter_complex", graph, "-map", "0:v", "-map", "[out]", "-c:v", "copy", scrambled
    )
    report = record_of("--checkpoint", weights, "--video", scrambled, "--out", tmp_path / "out")
    assert report["figures"]["delay of the audio"]["value"] is None
    assert report["results"]["verdict"] == "cannot tell"
    assert "do not agree on one delay" in report["results"]["sentence"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_clip(path, 4.0, audio_codec=None), "the file has no audio stream"),
        (lambda path: write_clip(path, 4.0, video_codec=None), "the file has no video stream"),
        (lambda path: write_clip(path, 4.0, audio=silence), "is silent from beginning to end"),
        (lambda path: write_clip(path, 4.0, frame_times_s=[0.0, 3.9]), "shows one image"),
        (lambda path: write_clip(path, 0.68), "the model encodes 0.64 s of audio at once"),
    ],
)
@pytest.mark.usefixtures("use_video_clock")
def test_a_video_in_which_nothing_can_be_in_step_is_refused(
    make: Callable[[Path], KnownClip], message: str, weights: Path, tmp_path: Path
) -> None:
    path = make(tmp_path / "video.mp4").path
    result = synchrony("--checkpoint", weights, "--video", path)
    assert result.exit_code == 1
    assert message in output_text(result)


@pytest.mark.usefixtures("use_video_clock")
def test_a_video_of_few_frames_gets_no_delay(weights: Path, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", 2.0).path
    report = record_of("--checkpoint", weights, "--video", short, "--out", tmp_path / "out")["results"]
    assert report["verdict"] == "cannot tell"
    assert "frames are too few, 8 are needed" in report["sentence"]
