"""Proves for every command that reads media files: it never follows a script named as a media file to other files, and
a file that kills or hangs the decoder costs itself only."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.media import write_clip
from support.processes.opened_files import OpenedFile, record_opens
from support.runs import SABOTAGE, SMALL, index

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.inspection import clips

SIDE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model in no run folder."""
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=64, image_size=SIDE)), path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 2.0, size=(96, 72)).path


@pytest.fixture
def target(clip: Path, tmp_path: Path) -> Iterator[OpenedFile]:
    """A video that no command lists, since no media file has its suffix."""
    (tmp_path / "files").mkdir()
    path = Path(shutil.copy(clip, tmp_path / "files" / "target.bin"))
    with record_opens(path) as opened:
        yield opened


def script(folder: Path, name: str) -> Path:
    """FFmpeg opens it whatever its suffix, and with it the file that it names."""
    (folder / name).write_text("ffconcat version 1.0\nfile target.bin\n")
    return folder / name


def output_of(*arguments: object) -> str:
    """The output of a command that may fail."""
    result = run(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return output_text(result)


# A command on a media file, with the clip, the weights and a folder to write to; its output.
Command = Callable[[Path, Path, Path, Path], str]


def prepare(path: Path, clip: Path, weights: Path, out: Path) -> str:
    output_of("prepare", "folder", path.parent, "--out", out / "data", *SMALL)
    return "; ".join(f"{row.source}: {row.state}" for row in index(out / "data").itertuples())


def prepare_all(path: Path, clip: Path, weights: Path, out: Path) -> str:
    output_of("prepare", "folder", path.parent, "--out", out / "data", "--clips", "all", *SMALL)
    return "; ".join(f"{row.source}: {row.state}" for row in index(out / "data").itertuples())


def show(path: Path, clip: Path, weights: Path, out: Path) -> str:
    """The path's file replaces a video that was prepared."""
    content = path.read_bytes()
    shutil.copy(clip, path)
    output_of("prepare", "folder", path.parent, "--out", out / "data", *SMALL)
    path.write_bytes(content)
    output_of("data", "show", out / "data", "--out", out / "page")
    return (out / "page" / "contact-sheet.html").read_text()


def embed(path: Path, clip: Path, weights: Path, out: Path) -> str:
    return output_of("embed", path, "--out", out / "x.parquet", "--checkpoint", weights)


def search(path: Path, clip: Path, weights: Path, out: Path) -> str:
    output_of("embed", clip, "--out", out / "x.parquet", "--checkpoint", weights)
    return output_of("search", path, "--in", out / "x.parquet", "--checkpoint", weights)


def localize_video(path: Path, clip: Path, weights: Path, out: Path) -> str:
    return output_of("localize", path, "--checkpoint", weights, "--out", out / "localized")


def localize_audio(path: Path, clip: Path, weights: Path, out: Path) -> str:
    return output_of("localize", clip, "--audio", path, "--checkpoint", weights, "--out", out / "localized")


def synchrony(path: Path, clip: Path, weights: Path, out: Path) -> str:
    return output_of("eval", "synchrony", "--video", path, "--checkpoint", weights, "--out", out / "report")


def segmentation(path: Path, clip: Path, weights: Path, out: Path) -> str:
    """The path's file is one of two prompts; the other one is the clip's audio."""
    return output_of(
        *("eval", "segmentation", "--data", prompted(out / "prompted", path, clip), "--map", "denseav"),
        *("--checkpoint", weights, "--max-missing", "0.4", "--out", out / "report"),
    )


def localization(path: Path, clip: Path, weights: Path, out: Path) -> str:
    """The path's file is one of two videos, or, where it is a .wav, the audio of one of two frames."""
    return output_of(
        *("eval", "localization", "--data", boxed(out / "boxed", path, clip), "--checkpoint", weights),
        *("--max-missing", "0.4", "--out", out / "report"),
    )


def prompted(root: Path, path: Path, clip: Path) -> Path:
    for folder in ("frames", "annotations", "audio"):
        (root / folder).mkdir(parents=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    image.save(root / "frames" / "a.jpg")
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[:32, :, 1] = 7
    Image.fromarray(mask).save(root / "annotations" / "a_seg.png")
    shutil.copy(clip, root / "audio" / "good.wav")
    link_with_target(path, root / "audio" / path.name)
    rows = [f"a.jpg,dog,7,{name}" for name in (path.name, "good.wav")]
    header = "image_location,ade_class,ade_class_id,vggsound_file"
    (root / "prompted_segmentation.csv").write_text("\n".join([header, *rows, ""]))
    return root


def boxed(root: Path, path: Path, clip: Path) -> Path:
    for folder in ("frames", "audio", "videos"):
        (root / folder).mkdir(parents=True)
    if path.suffix == ".wav":
        link_with_target(path, root / "audio" / path.name)
        Image.new("RGB", (SIDE, SIDE), "red").save(root / "frames" / f"{path.stem}.jpg")
    else:
        link_with_target(path, root / "videos" / path.name)
    shutil.copy(clip, root / "videos" / "good.mp4")
    rows = [{"file": name, "class": "dog", "bbox": [[0.0, 0.0, 0.5, 0.5]]} for name in (path.stem, "good")]
    (root / "vggss.json").write_text(json.dumps(rows))
    return root


def link_with_target(path: Path, link: Path) -> None:
    """A script names a file of its own folder, so that file is linked beside it; inotify records both files."""
    link.hardlink_to(path)
    target = path.with_name("target.bin")
    if target.exists():
        (link.parent / "target.bin").hardlink_to(target)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("trap.mp4", prepare),
        ("trap.mkv", prepare),
        ("trap.mp4", prepare_all),
        ("trap.mp4", show),
        ("trap.mp4", embed),
        ("trap.wav", embed),
        ("trap.mp3", embed),
        ("trap.mkv", search),
        ("trap.wav", search),
        ("trap.mp4", localize_video),
        ("trap.wav", localize_audio),
        ("trap.mp4", localize_audio),
        ("trap.mp4", synchrony),
        ("trap.mkv", synchrony),
        ("trap.wav", segmentation),
        ("trap.mp3", segmentation),
        ("trap.wav", localization),
        ("trap.mp4", localization),
    ],
)
def test_no_command_follows_a_script_to_another_file(
    name: str, command: Command, target: OpenedFile, clip: Path, weights: Path, tmp_path: Path
) -> None:
    path = script(target.path.parent, name)
    with av.open(str(path)):
        assert target.was_opened(), "FFmpeg alone follows the script"
    output = command(path, clip, weights, tmp_path)
    assert not target.was_opened()
    assert name in output
    reasons = ("it is a play list or script", "FFmpeg: Invalid", "decode_error")
    assert any(reason in output for reason in reasons)


Harm = Callable[[dict[str, str]], None]


@pytest.fixture
def harm(monkeypatch: pytest.MonkeyPatch) -> Harm:
    """Makes the decoder die or hang over files of these names."""

    def break_files(harms: dict[str, str]) -> None:
        monkeypatch.setenv("SABOTAGE", json.dumps([{"files": harms}]))
        monkeypatch.setenv("PYTHONPATH", str(SABOTAGE))

    return break_files


@pytest.mark.parametrize(
    ("name", "command", "outcome"),
    [
        ("killer.wav", segmentation, "only 1 of 2 rows scored; 1 crashed"),
        ("killer.mp4", localization, "only 1 of 2 rows scored; 1 crashed"),
        ("killer.mp4", synchrony, "cannot be used: its decoder died 2 times: killed by SIGSEGV"),
        ("killer.mp4", embed, "crashed: its decoder died 2 times: killed by SIGSEGV"),
    ],
)
def test_a_file_that_kills_the_decoder_costs_itself_only(
    name: str, command: Command, outcome: str, harm: Harm, clip: Path, weights: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(clip, tmp_path / name))
    harm({name: "segfault"})
    output = command(path, clip, weights, tmp_path)
    assert outcome in output
    assert name in output


def test_a_source_that_hangs_the_decoder_leaves_the_other_clips_their_audio(
    harm: Harm, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "hang.mp4"):
        shutil.copy(clip, tmp_path / "videos" / name)
    output_of("prepare", "folder", tmp_path / "videos", "--out", tmp_path / "data", *SMALL)
    harm({"hang.mp4": "hang"})
    monkeypatch.setattr(clips, "AUDIO_TIMEOUT_S", 1.0)
    output_of("data", "show", tmp_path / "data", "--out", tmp_path / "page")
    page = (tmp_path / "page" / "contact-sheet.html").read_text()
    assert page.count("no audio to play: not decoded within 1 s") == 1
    assert page.count("data:audio/wav") == 1


def test_a_header_over_which_the_decoder_dies_has_no_duration(harm: Harm, clip: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(clip, tmp_path / "killer.mp4"))
    harm({"killer.mp4": "segfault"})
    with DecoderProcess() as decoder:
        assert decoder.duration_s(path) is None
        assert decoder.duration_s(clip) == pytest.approx(2.0, abs=0.1)
