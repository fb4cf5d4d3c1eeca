"""Proves what `cavsync search` finds among known clips, by audio, an image and a video, and that its page plays there."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.clock_models import load_instead
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.media import KnownClip, numbered_frame, read_frame_number, run_ffmpeg, silence, write_clip
from support.own_videos import STEP_S, WINDOW_S, OwnClock, table_of
from support.pages import sound_page

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.train.embedding.windows.window_file import WindowFile
from cavsync.train.inference.search.hits import search
from cavsync.train.inference.search.query import SearchQuery

SECONDS = 8.0
FPS = 25


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=64)), path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("library") / "long clip #1.mp4", SECONDS)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window's cosine with a query falls with the time between them: it is cos(2 pi d / 40 s)."""
    load_instead(monkeypatch, OwnClock())


def embed_library(clip: KnownClip, weights: Path, root: Path) -> Path:
    """The embedded clip beside its muted copy and its audio alone."""
    folder = root / "library"
    folder.mkdir()
    (folder / clip.path.name).symlink_to(clip.path)
    run_ffmpeg("-i", clip.path, "-an", "-c", "copy", folder / "muted.mp4")
    run_ffmpeg("-i", clip.path, "-vn", folder / "audio.wav")
    with pytest.MonkeyPatch.context() as patch:
        load_instead(patch, OwnClock())
        run("embed", folder, "--out", root / "x.parquet", "--checkpoint", weights)
    return root / "x.parquet"


@pytest.fixture(scope="module")
def library(clip: KnownClip, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that leave it as it is."""
    return embed_library(clip, weights, tmp_path_factory.mktemp("root"))


@pytest.fixture
def own_library(clip: KnownClip, weights: Path, tmp_path: Path) -> Path:
    """tmp_path/x.parquet of the files in tmp_path/library, which the test may change."""
    return embed_library(clip, weights, tmp_path)


@pytest.fixture
def find(library: Path, weights: Path) -> Callable[..., dict[str, Any]]:
    def found(query: Path, *options: object, embeddings: Path = library) -> dict[str, Any]:
        result = run("search", query, "--in", embeddings, "--checkpoint", weights, "--json", *options)
        assert result.exit_code == 0, result.output
        record: dict[str, Any] = json.loads(result.stdout)
        return record

    return found


def cut_audio(clip: KnownClip, path: Path, start_s: float, duration_s: float) -> Path:
    run_ffmpeg("-ss", f"{start_s}", "-t", f"{duration_s}", "-i", clip.path, "-vn", path)
    return path


def numbered(path: Path, number: int) -> Path:
    Image.fromarray(numbered_frame(number, (160, 120))).save(path)
    return path


def best_by_file(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}
    for hit in record["hits"]:
        best.setdefault(Path(hit["file"]).name, hit)
    return best


# What is found


def test_audio_is_found_at_its_own_time_and_at_the_time_of_its_frames(
    find: Callable[..., dict[str, Any]], clip: KnownClip, tmp_path: Path
) -> None:
    query = cut_audio(clip, tmp_path / "query.wav", 4.0, WINDOW_S)
    record = find(query)
    assert record["kind"] == "audio"
    best = best_by_file(record)
    assert set(best) == {clip.path.name, "muted.mp4", "audio.wav"}
    for hit in best.values():
        assert hit["best_s"] == pytest.approx(4.0 + WINDOW_S / 2, abs=STEP_S)
        assert hit["start_s"] <= 4.2
        assert hit["end_s"] >= 4.4


def test_an_image_is_found_at_its_time(find: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    record = find(numbered(tmp_path / "query.png", 2 * FPS), "--against", "image")
    assert record["kind"] == "image"
    best = best_by_file(record)
    assert "audio.wav" not in best  # it has no frames to compare with
    for hit in best.values():
        assert hit["best_s"] == pytest.approx(2.0, abs=STEP_S)


def test_an_image_finds_the_audio_of_its_time(find: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    best = best_by_file(find(numbered(tmp_path / "query.png", 6 * FPS), "--against", "audio"))
    assert best["audio.wav"]["best_s"] == pytest.approx(6.0, abs=STEP_S)
    assert "muted.mp4" not in best


@pytest.mark.parametrize(("mute", "kind"), [([], "video"), (["-an"], "muted video")])
def test_a_video_finds_itself(
    mute: list[str], kind: str, find: Callable[..., dict[str, Any]], clip: KnownClip, tmp_path: Path
) -> None:
    run_ffmpeg("-ss", "5", "-t", "1", "-i", clip.path, *mute, tmp_path / "query.mp4")
    record = find(tmp_path / "query.mp4")
    assert record["kind"] == kind
    # The copy begins its count anew: its first frame is that on screen at 5 s.
    assert best_by_file(record)[clip.path.name]["best_s"] == pytest.approx(5.5, abs=STEP_S + 0.05)


def test_hits_are_apart_sorted_and_as_many_as_asked(
    find: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    query = numbered(tmp_path / "query.png", 100)
    hits = find(query, "--limit", 5)["hits"]
    assert len(hits) == 5
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for one in hits:
        for other in hits:
            if one is not other and one["file"] == other["file"]:
                assert one["end_s"] <= other["start_s"] or other["end_s"] <= one["start_s"]
    assert find(query, "--limit", 2)["hits"] == hits[:2]


def test_a_query_in_another_precision_is_compared_and_reported(
    library: Path, weights: Path, tmp_path: Path
) -> None:
    query = numbered(tmp_path / "query.png", 100)
    command = ("search", query, "--in", library, "--checkpoint", weights, "--json")
    same, other = (run(*command, "--precision", one) for one in ("float32", "bfloat16"))
    expected = f"{library} was embedded in float32, and here bfloat16 is used"
    assert expected not in output_text(same)
    assert expected in output_text(other)
    assert "For the same give --precision float32" in output_text(other)
    found = [json.loads(one.stdout) for one in (same, other)]
    assert [one["precision"] for one in found] == [
        {"in": "float32", "query": "float32"},
        {"in": "float32", "query": "bfloat16"},
    ]
    assert found[0]["hits"] == found[1]["hits"]  # the stand-in has no products


def test_a_hit_reaches_as_far_as_its_windows_are_half_as_good(library: Path, clip: KnownClip) -> None:
    file = WindowFile.open(library)
    table = table_of(library)
    angle = 2 * np.pi * 4.0 / 40
    query = SearchQuery(Path("q"), "audio", np.array([np.cos(angle), np.sin(angle), *[0.0] * 14]), None)
    found = search(file, query, "audio", limit=2)
    audible = table[table.audio.notna()]
    cosines = np.stack(list(audible.audio)) @ query.audio  # type: ignore[operator]
    scores = (cosines - cosines.mean()) / cosines.std()
    own = audible.file == found.hits[0].file
    good = audible[own & (scores >= scores.max() / 2)]
    assert (found.hits[0].start_s, found.hits[0].end_s) == (good.start_s.min(), good.end_s.max())
    assert found.hits[0].score == pytest.approx(scores.max(), abs=0.01)
    assert found.hits[0].num_windows == len(good)


def test_matrices_of_a_large_file_give_the_same_hits_until_the_file_changes(
    find: Callable[..., dict[str, Any]],
    own_library: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = numbered(tmp_path / "query.png", 100)
    plain = find(query, embeddings=own_library)["hits"]
    monkeypatch.setattr("cavsync.train.embedding.windows.matrix.MIN_MAPPED_WINDOWS", 1)
    for _ in range(2):
        assert find(query, embeddings=own_library)["hits"] == plain
    folder = own_library.with_name("x.parquet.matrix")
    assert len(list(folder.glob("*.npy"))) == 2
    own_library.unlink()  # embeddings of other files are not replaced
    run("embed", tmp_path / "library" / "muted.mp4", "--out", own_library, "--checkpoint", weights)
    assert {Path(hit["file"]).name for hit in find(query, embeddings=own_library)["hits"]} == {"muted.mp4"}
    assert len(list(folder.glob("*.npy"))) == 2


# What is shown


def test_the_table_names_files_and_times(
    library: Path, weights: Path, clip: KnownClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    query = cut_audio(clip, tmp_path / "query.wav", 4.0, WINDOW_S)
    result = run("search", query, "--in", library, "--checkpoint", weights, "--limit", 3)
    assert result.exit_code == 0
    assert f"{query} (audio) among 72 windows" in output_text(result)
    for name in (clip.path.name, "audio.wav", "muted.mp4"):
        assert f"library/{name}" in result.output
    assert len(re.findall(r"0:0[34]\.\d\s+.\s+\S*library/", result.output)) == 3


def test_the_page_shows_the_frame_of_a_hit_and_plays_from_there(
    library: Path, weights: Path, clip: KnownClip, tmp_path: Path
) -> None:
    page = tmp_path / "pages" / "found.html"
    query = cut_audio(clip, tmp_path / "query.wav", 4.0, WINDOW_S)
    options = ("--checkpoint", weights, "--html", page, "--json")
    hits = json.loads(run("search", query, "--in", library, *options).stdout)["hits"]
    sound_page(page)
    text = page.read_text()
    assert len(re.findall('class="card hit"', text)) == len(hits)
    players = re.findall(r'<(video|audio) [^>]*src="([^"#]+)#t=([\d.]+),([\d.]+)"', text)
    assert len(players) == len(hits)
    for (tag, address, start_s, end_s), hit in zip(players, hits, strict=True):
        assert (page.parent / unquote(address)).samefile(hit["file"])
        assert (float(start_s), float(end_s)) == pytest.approx((hit["start_s"], hit["end_s"]), abs=0.005)
        assert tag == ("audio" if hit["file"].endswith(".wav") else "video")
    posters = re.findall(r'poster="data:image/jpeg;base64,([^"]+)"', text)
    seen = [hit for hit in hits if not hit["file"].endswith(".wav")]
    for poster, hit in zip(posters, seen, strict=True):
        image = np.array(Image.open(io.BytesIO(base64.b64decode(poster))))
        assert read_frame_number(image) == pytest.approx(clip.frame_number_at(hit["best_s"]), abs=1)


def test_the_page_shows_the_first_frame_of_a_query_that_is_a_video(
    library: Path, weights: Path, clip: KnownClip, tmp_path: Path
) -> None:
    page = tmp_path / "found.html"
    options = ("--checkpoint", weights, "--html", page, "--limit", "1")
    assert run("search", clip.path, "--in", library, *options).exit_code == 0
    query = next(one for one in sound_page(page).all("video") if one.is_in("asked"))
    assert (page.parent / unquote(query.attributes["src"])).samefile(clip.path)
    jpeg = base64.b64decode(query.attributes["poster"].partition(",")[2])
    assert read_frame_number(np.array(Image.open(io.BytesIO(jpeg)))) == pytest.approx(0, abs=1)


def test_a_missing_file_has_a_card_with_the_reason(own_library: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "library" / "muted.mp4").unlink()
    page = tmp_path / "found.html"
    query = numbered(tmp_path / "query.png", 100)
    result = run("search", query, "--in", own_library, "--checkpoint", weights, "--html", page)
    assert result.exit_code == 0, result.output
    assert "missing: it is not there" in page.read_text()
    sound_page(page)


# What is refused


@pytest.fixture(scope="module")
def wrong_files(library: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files of which a search cannot be made."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "text.wav").write_text("410 Gone")
    broken = numbered(folder / "query.png", 3).read_bytes()
    (folder / "broken.png").write_bytes(broken[: len(broken) // 2])
    write_clip(folder / "silent.wav", 1.0, audio=silence, video_codec=None, audio_codec="pcm_s16le")
    table_of(library)[["file", "start_s"]].to_parquet(folder / "other.parquet")
    muted = library.parent / "library" / "muted.mp4"
    run("embed", muted, "--out", folder / "muted.parquet", "--checkpoint", weights)
    save_model(CavMaeSync(micro_model(audio_rows=64)), folder / "other.safetensors")
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.wav", "--in", "LIBRARY"], 1, "nowhere.wav is not there"),
        (["text.wav", "--in", "LIBRARY"], 1, "text.wav is neither an image nor audio nor a video"),
        (["broken.png", "--in", "LIBRARY"], 1, "broken.png cannot be read as an image"),
        (["silent.wav", "--in", "LIBRARY"], 1, "so nothing can be searched with it"),
        (["query.png", "--in", "nowhere.parquet"], 1, "make it with `cavsync embed`"),
        (["query.png", "--in", "text.wav"], 1, "text.wav is no Parquet file"),
        (["query.png", "--in", "other.parquet"], 1, "is no file of `cavsync embed`: metadata or columns"),
        (["query.png", "--in", "muted.parquet", "--against", "audio"], 1, "holds no window with an audio"),
        (["query.png", "--in", "LIBRARY", "--checkpoint", "other.safetensors"], 1, "is another one"),
        (["query.png", "--in", "LIBRARY", "--limit", "0"], 2, "greater than or equal to 1"),
        (["query.png"], 2, "Missing option '--in'"),
    ],
)
def test_wrong_usage_is_refused_in_one_message(
    arguments: list[str],
    code: int,
    message: str,
    library: Path,
    weights: Path,
    wrong_files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(wrong_files)
    chosen = [] if "--checkpoint" in arguments else ["--checkpoint", weights]
    result = run("search", *(library if one == "LIBRARY" else one for one in arguments), *chosen)
    assert result.exit_code == code
    assert message in output_text(result)
    assert "Traceback" not in result.output


def test_nan_in_the_embeddings_is_refused_with_its_row(
    own_library: Path, weights: Path, tmp_path: Path
) -> None:
    table = pq.read_table(own_library)
    rows = table.column("image").to_pylist()
    broken = next(number for number, vector in enumerate(rows) if vector is not None)
    rows[broken][3] = float("nan")
    column = pa.array(rows, table.schema.field("image").type)
    pq.write_table(table.set_column(5, table.schema.field("image"), column), own_library)
    query = numbered(tmp_path / "query.png", 3)
    result = run("search", query, "--in", own_library, "--checkpoint", weights)
    assert result.exit_code == 1
    assert f"row {broken}: its image embedding is NaN or infinite" in output_text(result)
