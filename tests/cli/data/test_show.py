"""Proves `cavsync data show`: the requested clips, with their audio, on a page that needs no other file."""

import base64
import io
import re
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pages import sound_page
from support.prepared import data, index_rows, prepare_vggsound, write_videos

from cavsync.pipeline.dataset.inventory import Inventory, InventoryError
from cavsync.pipeline.inspection.clips import clip_of_key
from cavsync.pipeline.media.mel import log_mel
from cavsync.train.reporting.contact_sheet import clip_plot

KEY = "b_00001000"  # 1.5 s, from the first second of its video on


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("show")
    write_videos(root)
    return prepare_vggsound(root)


def show(out: Path, to: Path, *options: str) -> str:
    """The page, in a folder of its own among those of one test."""
    to = to / "".join(options)
    result = data("show", out, "--out", to, *options)
    assert result.exit_code == 0, result.output
    with Image.open(to / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
    sound_page(to / "contact-sheet.html")
    return (to / "contact-sheet.html").read_text()


def test_the_page_plays_the_audio_that_was_prepared(prepared: Path, tmp_path: Path) -> None:
    page = show(prepared, tmp_path, "--key", KEY)
    (encoded,) = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    with wave.open(io.BytesIO(base64.b64decode(encoded))) as wav:
        assert (wav.getframerate(), wav.getnchannels()) == (16_000, 1)
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2") / 32767
    stored = clip_of_key(Inventory.read(prepared), KEY).stored
    assert stored is not None
    loud = stored.mel > -4  # 16 bits hide the rest
    computed = log_mel(samples)[: len(stored.mel)]
    assert loud.mean() > 0.02
    assert np.abs(computed - stored.mel)[loud].max() < 0.05


def test_the_page_has_images_and_facts_and_loads_no_other_file(prepared: Path, tmp_path: Path) -> None:
    page = show(prepared, tmp_path, "--key", KEY)
    assert page.count("data:image/png;base64,") == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for fact in (
        KEY,
        "b.mp4",
        "h264, 160 x 120, 25 fps",
        "44,100 Hz, 1 channel",
        f"{index_rows(prepared)[KEY]['crc32']:08x}",
    ):
        assert fact in page


def test_each_frame_is_drawn_above_its_window(prepared: Path) -> None:
    sample = clip_of_key(Inventory.read(prepared), KEY)
    assert sample.stored is not None
    assert sample.row.clip is not None
    whole = np.asarray(clip_plot(sample.row.clip, sample.stored))
    clip = replace(sample.row.clip, window_start=[40, 40, 40, 40])
    moved = np.asarray(clip_plot(clip, sample.stored))
    changed = np.flatnonzero((whole != moved).any(axis=(1, 2)))
    assert changed.min() > 0.6 * len(whole), "only the windows, below the log-mel, move"


def test_failed_clips_are_shown_with_their_reason(prepared: Path, tmp_path: Path) -> None:
    page = show(prepared, tmp_path, "--state", "decode_error")
    assert "e_00000000" in page
    assert "decode_error: " in page
    assert "data:" not in page
    assert "missing: no video of this clip was found" in show(prepared, tmp_path, "--state", "missing")


def test_a_split_and_a_number_select_clips(prepared: Path, tmp_path: Path) -> None:
    assert show(prepared, tmp_path, "--split", "test", "--num", "9").count('class="clip"') == 3
    assert show(prepared, tmp_path, "--num", "2").count('class="clip"') == 2


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    write_videos(tmp_path)
    out = prepare_vggsound(tmp_path)
    shutil.rmtree(tmp_path / "videos")
    page = show(out, tmp_path / "page", "--key", KEY)
    assert "no audio to play" in page
    assert "b.mp4 is no longer there" in page
    assert "data:image/png" in page, "the frames are in the shard"


def test_the_latest_try_of_a_clip_is_shown(tmp_path: Path) -> None:
    write_videos(tmp_path)
    prepare_vggsound(tmp_path)
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "e.mp4")
    out = prepare_vggsound(tmp_path, "--retry-failed")
    assert clip_of_key(Inventory.read(out), "e_00000000").row.shard == "train-00000r1"
    assert data("show", out, "--state", "decode_error").exit_code == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--key", "a_00000001"), 1, "lists no clip a_00000001; the nearest is a_00000000"),
        (("--key", "b_77"), 1, "lists no clip b_77; the nearest is b_00000000, b_00001000"),
        (("--key", "b"), 1, "lists no clip b; the nearest is b_00000000, b_00001000"),
        (("--key", "entirely-else"), 1, "keys are like a_00000000"),
        (("--split", "valid"), 1, "has no split 'valid'; it has: test, train."),
        (
            ("--state", "timeout"),
            1,
            "has no clip in state timeout; all shards are finished, their clips are: 6 ok",
        ),
        (("--state", "broken"), 2, "'broken' is no state; the states are ok, missing"),
    ],
)
def test_a_clip_that_cannot_be_shown_is_an_error(
    options: tuple[str, ...], code: int, message: str, prepared: Path, tmp_path: Path
) -> None:
    result = data("show", prepared, "--out", tmp_path, *options)
    assert result.exit_code == code
    assert "".join(message.split()) in "".join(result.output.replace("│", "").split())


def test_a_clip_that_is_not_prepared_yet_is_an_error(prepared: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(prepared, tmp_path / "out"))
    (out / "done" / "test-00000.json").unlink()
    with pytest.raises(InventoryError, match=r"is planned but not prepared yet; 2 of 3 shards"):
        clip_of_key(Inventory.read(out), KEY)
