"""Proves that a dataset comes from and goes to object stores and web servers with the bytes that it has on a disk,
whatever fails meanwhile: through the commands, against moto's S3 server and a web server on this machine.
"""

import io
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from support.archives.packing import write_tar, write_tar_gz
from support.command_line import output_text, run
from support.known_shards import micro_run, write_known_shards
from support.media import write_clip
from support.prepared import data
from support.runs import SMALL, content, copied, started
from support.servers.stores import Fault, S3Store, http_server

from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.storage import filesystem as stores
from cavsync.pipeline.storage.lock import run_lock
from cavsync.pipeline.storage.path import as_path
from cavsync.train.data.store import ClipStore
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.trainer import pretrain

pytestmark = pytest.mark.usefixtures("quick_decoders")

LISTED = "clip,path,tag\na,a.mp4,dog\nb,b c#1.mp4,cat\nd,d/d.mp4,dog\ne,e.mp4,dog\n"
COLUMNS = ("--id-column", "clip", "--file-column", "path", "--label-column", "tag")
# Where a run is killed, in the order of a run: before the store received the request, or after it was carried out.
KILLS = [
    ("after", "PUT */data/shards/train-00000.tar[?]partNumber=*"),
    ("after", "POST */data/shards/train-00000.tar[?]uploadId=*"),
    ("before", "POST */data/done/train-00001.json[?]uploadId=*"),
    ("after", "POST */data/dataset.json[?]uploadId=*"),
]
OTHERS_LOCK = json.dumps({"pid": 7, "started": 1, "host": "elsewhere", "since": "2020-02-02T02:02:02+00:00"})


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Store]:
    """A store that commands of this process find, and those that they start."""
    with S3Store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in {**store.env, stores.RETRY_TIMEOUT_VARIABLE: "0.5"}.items():
            patch.setenv(name, value)
        forget_connections()
        yield store


def forget_connections() -> None:
    """To another server, or with other credentials."""
    stores._connected.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/: three clips under names that URLs write in another way, and a broken one; list.csv of them."""
    root = tmp_path_factory.mktemp("raw")
    (root / "videos" / "d").mkdir(parents=True)
    write_clip(root / "videos" / "a.mp4", 1.2)
    write_clip(root / "videos" / "b c#1.mp4", 1.6)
    shutil.copy(root / "videos" / "a.mp4", root / "videos" / "d" / "d.mp4")
    (root / "videos" / "e.mp4").write_text("410 Gone")
    (root / "list.csv").write_text(LISTED)
    return root


@pytest.fixture(scope="module")
def videos(raw: Path) -> Path:
    return raw / "videos"


@pytest.fixture(scope="module")
def parts(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same videos, three of them in archives whose names URLs write in another way."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copy(videos / "b c#1.mp4", folder)
    write_tar(folder / "p #1.tar", {"s t/a.mp4": (videos / "a.mp4").read_bytes()})
    rest = {"d/d.mp4": (videos / "d" / "d.mp4").read_bytes(), "e.mp4": (videos / "e.mp4").read_bytes()}
    write_tar_gz(folder / "q.tar.gz", rest)
    return folder


@pytest.fixture(scope="module")
def local(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that a run makes on a disk."""
    out = tmp_path_factory.mktemp("local") / "data"
    prepared("folder", videos, "--out", out)
    return out


@pytest.fixture
def out(s3: S3Store) -> Iterator[str]:
    """A folder for a dataset in the store, empty again after the test."""
    yield "s3://bucket/data"
    for name in s3.files("data"):
        s3.delete(f"data/{name}")


def prepare(*arguments: str | Path) -> Result:
    return run("prepare", *arguments, *SMALL)


def prepared(*arguments: str | Path) -> Result:
    result = prepare(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str | Path) -> str:
    """The message."""
    result = prepare(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return output_text(result)


def without_done(files: dict[str, bytes]) -> dict[str, bytes]:
    """What must not depend on when a dataset was made, of one that no run holds."""
    assert ".lock" not in files
    return {name: file for name, file in files.items() if not name.startswith(("done/", "run.json"))}


def tars(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: file for name, file in files.items() if name.endswith(".tar")}


def rows(source: Path | dict[str, bytes]) -> pd.DataFrame:
    """The index, without where the videos were."""
    files = content(source) if isinstance(source, Path) else source
    tables = [
        pd.read_parquet(io.BytesIO(file)) for name, file in sorted(files.items()) if name.startswith("index/")
    ]
    return pd.concat(tables, ignore_index=True).drop(columns="source")


def test_a_store_gets_the_bytes_that_a_disk_gets(s3: S3Store, videos: Path, local: Path, out: str) -> None:
    result = prepared("folder", videos, "--out", out)
    assert "Dataset: s3://bucket/data" in result.output
    assert "run.json" not in s3.files("data")
    assert without_done(s3.files("data")) == content(local)
    assert "All 4 clips are prepared already" in prepared("folder", videos, "--out", out).output


def test_videos_of_a_store_give_the_same_clips(s3: S3Store, videos: Path, local: Path, out: str) -> None:
    url = s3.put_folder(videos, "videos")
    assert f"4 videos in {url} (4 mp4)" in prepared("folder", url, "--out", out).output
    files = s3.files("data")
    assert tars(files) == tars(content(local))
    pd.testing.assert_frame_equal(rows(files), rows(local))
    assert "s3://bucket/videos/b c#1.mp4" in set(pd.read_parquet(io.BytesIO(files["plan.parquet"]))["source"])


def test_a_root_in_a_store_holds_lists_videos_and_dataset(s3: S3Store, videos: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "vggsound"
    shutil.copytree(videos, raw / "videos")
    (raw / "vggsound.csv").write_text("a,0,dog,train\nd,0,dog,test\ne,0,cow,test\nf,0,dog,train\n")
    root = s3.put_folder(tmp_path, "root")
    prepared("vggsound", "--root", root)
    prepared("vggsound", "--root", tmp_path)
    there = s3.files("root/data/vggsound")
    assert tars(there) == tars(content(tmp_path / "data" / "vggsound"))
    pd.testing.assert_frame_equal(rows(there), rows(tmp_path / "data" / "vggsound"))


def test_lists_and_videos_of_a_web_server(s3: S3Store, raw: Path, tmp_path: Path, out: str) -> None:
    options = (*COLUMNS, "--decoder", "ffmpeg")  # which opens files itself
    with http_server(raw, lists_folders=False) as web:
        assert "holds no video" in refused("folder", f"{web}/videos", "--out", tmp_path / "none")
        prepared("manifest", f"{web}/list.csv", "--videos", f"{web}/videos", "--out", out, *options)
    prepared("manifest", raw / "list.csv", "--videos", raw / "videos", "--out", tmp_path / "local", *options)
    assert tars(s3.files("data")) == tars(content(tmp_path / "local"))
    pd.testing.assert_frame_equal(rows(s3.files("data")), rows(tmp_path / "local"))


def test_pages_of_links_are_a_folder(videos: Path, local: Path, tmp_path: Path) -> None:
    with plain_server(videos.parent) as web:
        prepared("folder", f"{web}/videos/", "--out", tmp_path / "data")
        assert "HTTP is read-only" in refused("folder", videos, "--out", f"{web}/data")
    assert tars(content(tmp_path / "data")) == tars(content(local))


def test_archives_of_a_web_server_give_the_same_clips(parts: Path, local: Path, tmp_path: Path) -> None:
    """Its pages of links name them, and it gives no parts of files."""
    with plain_server(parts.parent) as web:
        prepared("folder", f"{web}/{parts.name}", "--out", tmp_path / "data")
    assert tars(content(tmp_path / "data")) == tars(content(local))


def test_a_dry_run_writes_nothing(s3: S3Store, videos: Path, out: str) -> None:
    url = s3.put_folder(videos, "videos")
    result = prepared("folder", url, "--out", out, "--dry-run", "--json")
    expected = json.loads(result.stdout.splitlines()[-1])
    assert (expected["num_found"], expected["free_bytes"]) == (4, None)
    assert not s3.files("data")


def test_killed_at_any_upload_a_run_is_continued(s3: S3Store, videos: Path, local: Path, out: str) -> None:
    for when, request in KILLS:
        finished = {name for name in s3.files("data") if name.startswith("done/")}
        with copied(videos, "--out", out) as run, s3.failing(Fault(request, **{when: run.kill}, times=1)):
            run.join(60)
            assert run.exitcode == -signal.SIGKILL, request
        assert finished <= set(s3.files("data"))
    num_before = len(s3.requests)
    prepared("folder", videos, "--out", out)
    assert without_done(s3.files("data")) == content(local)
    assert not [
        request for request in s3.requests[num_before:] if "/shards/" in request and request[:4] != "HEAD"
    ]


def test_a_store_that_dies_stops_the_run_which_then_continues(
    s3: S3Store, videos: Path, local: Path, out: str
) -> None:
    url = s3.put_folder(videos, "videos")
    dies = Fault("POST */data/shards/train-00001.tar[?]uploads", before=s3.stop, times=1)
    with started(url, "--out", out) as run, s3.failing(dies):
        _, message = run.communicate(timeout=60)
    s3.start()
    assert run.returncode == 1
    assert "s3://bucket/data/shards/train-00001.tar cannot be written" in message
    assert "The store does not answer; repeat the command when it does. Finished shards are kept." in message
    num_before = len(s3.requests)
    prepared("folder", url, "--out", out)
    assert tars(without_done(s3.files("data"))) == tars(content(local))
    again = [request for request in s3.requests[num_before:] if "train-00000" in request]
    assert {request.split()[0] for request in again} <= {"GET", "HEAD"}


def test_a_store_that_returns_in_time_is_waited_for(
    s3: S3Store, videos: Path, local: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.RETRY_TIMEOUT_VARIABLE, "30")
    url = s3.put_folder(videos, "videos")

    def restart() -> None:
        s3.stop()
        threading.Timer(0.4, s3.start).start()

    faults = [
        Fault("PUT */data/shards/train-00000.tar[?]partNumber=*", before=restart, times=1),
        Fault("POST */data/shards/train-00001.tar[?]uploadId=*", status=503, times=1),
        Fault("GET */data/done/*", status=500, times=1),
        Fault("GET */videos/a.mp4", cut=True, times=1),
        Fault("GET */videos/b c#1.mp4", status=503, times=1),
    ]
    with s3.failing(*faults):
        result = prepared("folder", url, "--out", out)
    assert all(fault.seen for fault in faults)
    assert result.output.count("retrying") >= 1
    assert tars(without_done(s3.files("data"))) == tars(content(local))


@pytest.mark.slow
def test_ray_works_from_and_to_a_store(s3: S3Store, parts: Path, local: Path, out: str) -> None:
    """From archives too, whose contents are kept in the store."""
    with started(s3.put_folder(parts, "parts"), "--out", out, "--workers", "2") as run:
        _, message = run.communicate(timeout=100)
    assert run.returncode == 0, message
    files = s3.files("data")
    assert tars(without_done(files)) == tars(content(local))
    assert len([name for name in files if name.startswith("archives/")]) == 4
    sources = set(pd.read_parquet(io.BytesIO(files["plan.parquet"]))["source"])
    assert {"s3://bucket/parts/p #1.tar/s t/a.mp4", "s3://bucket/parts/q.tar.gz/d/d.mp4"} < sources


def test_one_video_that_is_forbidden_is_one_clip(s3: S3Store, videos: Path, out: str) -> None:
    url = s3.put_folder(videos, "videos")
    with s3.failing(Fault("GET */videos/a.mp4", status=403)):
        prepared("folder", url, "--out", out)
    found = rows(s3.files("data")).set_index("clip_id")
    assert found["state"].value_counts().to_dict() == {"ok": 2, "decode_error": 2}
    assert "not read in 3 tries: s3://bucket/videos/a.mp4 cannot be read" in found["reason"]["a"]


@pytest.mark.parametrize(("status", "way_out"), [(403, "your credentials"), (503, "does not answer")])
def test_a_store_that_gives_no_video_stops_the_run(
    status: int, way_out: str, s3: S3Store, videos: Path, tmp_path: Path
) -> None:
    url = s3.put_folder(videos, "videos")
    with s3.failing(Fault("GET */videos/*.mp4", status=status)):
        assert way_out in refused("folder", url, "--out", tmp_path / "data")
    assert not list(tmp_path.glob("data/done/*"))


def test_a_second_run_names_the_first(s3: S3Store, videos: Path, out: str) -> None:
    with run_lock(as_path(out)):
        message = refused("folder", videos, "--out", out)
    assert f"{out} is being prepared by process {os.getpid()} on {socket.gethostname()} since" in message
    s3.put("data/.lock", OTHERS_LOCK.encode())
    message = refused("folder", videos, "--out", out)
    assert "by process 7 on elsewhere since 2020-02-02" in message
    assert "delete s3://bucket/data/.lock" in message
    assert data("status", out).exit_code == 1


def test_of_two_runs_that_begin_at_once_one_goes_on(s3: S3Store, videos: Path, out: str) -> None:
    def be_faster() -> None:
        s3.put("data/.lock", OTHERS_LOCK.encode())

    with s3.failing(Fault("PUT */data/.lock", before=be_faster, times=1)):
        assert "by process 7 on elsewhere" in refused("folder", videos, "--out", out)
    assert set(s3.files("data")) == {".lock"}


@pytest.mark.usefixtures("quick_reports")
def test_data_commands_read_a_url_and_mend_it(
    s3: S3Store, local: Path, videos: Path, out: str, tmp_path: Path
) -> None:
    s3.put_folder(local, "data")
    status = json.loads(data("status", out, "--json").stdout)
    assert status == json.loads(data("status", local, "--json").stdout) | {"root": out}
    assert "2 shards are whole" in data("validate", out).output
    for command in ("stats", "show"):
        result = data(command, out, "--out", tmp_path / command)
        assert result.exit_code == 0, result.output
    assert "data:audio/wav" in (tmp_path / "show" / "contact-sheet.html").read_text()
    tar = s3.files("data")["shards/train-00001.tar"]
    s3.put("data/shards/train-00001.tar", tar.replace(b"\xff", b"\xfe"))
    result = data("validate", out, "--fix")
    assert result.exit_code == 1
    assert "train-00001 is damaged" in result.output
    assert "shards/train-00001.tar" not in s3.files("data")
    prepared("folder", videos, "--out", out)
    assert without_done(s3.files("data")) == content(local)


def test_an_error_names_what_is_wrong_with_a_store(
    s3: S3Store, videos: Path, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "bucket does not exist" in refused("folder", "s3://nowhere/videos", "--out", tmp_path / "data")
    assert "bucket does not exist" in refused("folder", videos, "--out", "s3://nowhere/data")
    assert "s3://bucket/nothing is no folder" in refused("folder", "s3://bucket/nothing", "--out", out)
    assert "Protocol not known: foo. Name a path, or a URL" in refused("folder", "foo://a/b", "--out", out)
    assert "a chain of URLs" in output_text(prepare("folder", "simplecache::s3://bucket/a", "--out", out))
    assert "s3:// names no file or folder" in output_text(prepare("folder", "s3://", "--out", out))
    with s3.failing(Fault("*", status=403)):
        assert "your credentials and what they allow" in refused("folder", videos, "--out", out)
    forget_connections()
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "`pip install 'cavsync[remote]'` brings it" in refused("folder", videos, "--out", out)


def test_missing_credentials_are_an_error(
    s3: S3Store, videos: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_connections()
    assert "Unable to locate credentials" in refused("folder", videos, "--out", out)
    forget_connections()


def test_training_streams_from_a_store(s3: S3Store, tmp_path: Path) -> None:
    s3.put_folder(write_known_shards(tmp_path / "shards"), "shards")
    there, here = (
        load_file(pretrain(streamed(path), tmp_path / name, device="cpu").weights)
        for name, path in (("there", "s3://bucket/shards"), ("here", tmp_path / "shards"))
    )
    assert all(torch.equal(there[name], here[name]) for name in here)
    with pytest.raises(DatasetError, match=r"s3://bucket/shards is a URL, .* data\.source=stream"):
        ClipStore(Dataset.open("s3://bucket/shards"), "train")


def streamed(path: str | Path) -> PretrainConfig:
    config = micro_run(Path(path), batch_size=4, num_steps=3)
    return replace(config, data=replace(config.data, source="stream", path=str(path), num_workers=0))


def test_a_server_that_gives_no_parts_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cavsync.pipeline.storage.remote_file.BLOCK_BYTES", 1000)
    table = pa.table({"number": pa.array(range(2000), pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet", compression="none")
    expected = (tmp_path / "a.parquet").read_bytes()
    for lister in (plain_server, http_server):
        with lister(tmp_path) as web, as_path(f"{web}/a.parquet").open("rb") as file:
            assert file.seek(-8, os.SEEK_END) == len(expected) - 8
            assert file.read() == expected[-8:]
            file.seek(500)
            assert file.read(2500) == expected[500:3000]
            assert pq.read_table(file).equals(table)


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """Python's own, which gives no parts of files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
