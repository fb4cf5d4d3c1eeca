"""Proves that tars and zips of videos are prepared as folders of them: the same bytes, whatever the archive, and its
damage costs its own clips only."""

import json
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from support.archives.packing import (
    BAD_BLOCK,
    WRITERS,
    member,
    packed_in_parts,
    tar_bytes,
    write_tar,
    write_tar_gz,
    write_zip,
)
from support.command_line import prepare
from support.media import write_clip
from support.prepared import data, flip
from support.runs import SMALL, content, index

from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.jobs import runner
from cavsync.pipeline.jobs.shard import OnClip, ShardTask

# The index of a packed tar has several seek points.
NOISE = random.Random(1).randbytes(9 * 2**20)
LISTED = "b,0,dog,train\na,0,cat,train\nc,0,cow,train\nd,0,cow,test\ne,0,cow,test\nf,0,dog,train\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Name -> content of five videos, one of them broken; the index of the mkv is at its end."""
    folder = tmp_path_factory.mktemp("videos")
    for name, duration_s in (("a.mp4", 1.2), ("b.mp4", 1.6), ("c.mkv", 1.4)):
        write_clip(folder / name, duration_s)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {**files, "d d.mp4": files["a.mp4"], "e.mp4": b"410 Gone"}


@pytest.fixture(scope="module")
def listed(videos: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder raw/ with list.csv, and the dataset that loose files give: loose/."""
    raw = tmp_path_factory.mktemp("listed")
    (raw / "list.csv").write_text(LISTED)
    (raw / "videos").mkdir()
    for name, video in videos.items():
        (raw / "videos" / name.replace(" d", "")).write_bytes(video)
    vggsound(raw, raw / "videos", raw / "loose")
    return raw


def by_id(videos: dict[str, bytes]) -> dict[str, bytes]:
    return {name.replace(" d", ""): video for name, video in videos.items()}


def vggsound(raw: Path, source: Path | str, out: Path, *options: str) -> str:
    """Its output."""
    where = ("--list", raw / "list.csv", "--videos", source, "--out", out)
    code, text = prepare("vggsound", *where, "--layout", "whole", *SMALL, *options)
    assert code == 0, text
    return text


def shards(out: Path) -> dict[str, bytes]:
    return {name: file for name, file in content(out).items() if name.endswith(".tar")}


def rows(out: Path) -> pd.DataFrame:
    """The index without where the videos were."""
    return index(out).drop(columns="source")


def reasons(out: Path) -> dict[str, str]:
    """Id -> state and reason."""
    table = index(out).fillna({"reason": ""})
    return dict(zip(table["clip_id"], table["state"] + ": " + table["reason"], strict=True))


def require_equal(out: Path, loose: Path) -> None:
    assert shards(out) == shards(loose)
    pd.testing.assert_frame_equal(rows(out), rows(loose))


def test_a_folder_of_archives_gives_the_bytes_of_loose_files(
    videos: dict[str, bytes], tmp_path: Path
) -> None:
    """One video lies in an archive of each kind, beside what video2dataset writes there, and is found as in a folder."""
    parts, loose = tmp_path / "parts", tmp_path / "loose"
    (parts / "more").mkdir(parents=True)
    loose.mkdir()
    for (archive, write), (name, video) in zip(WRITERS.items(), by_id(videos).items(), strict=True):
        folder = parts / "more" if archive.startswith("3") else parts
        write(folder / archive, {"noise.json": NOISE[:99], f"./s/{name}": video, "s/end.txt": b"end"})
        (loose / name).write_bytes(video)
    (parts / "f.mp4").write_bytes(videos["a.mp4"])
    (loose / "f.mp4").write_bytes(videos["a.mp4"])
    (parts / "g.7z").write_bytes(b"7z")
    code, text = prepare("folder", parts, "--out", tmp_path / "out", *SMALL)
    assert code == 0, text
    assert "6 videos in" in text
    assert "1 7z (an archive of a kind that is not read" in text
    assert prepare("folder", loose, "--out", tmp_path / "data", *SMALL)[0] == 0
    assert shards(tmp_path / "out") == shards(tmp_path / "data")
    found, expected = (rows(one).drop(columns="listed_in") for one in (tmp_path / "out", tmp_path / "data"))
    pd.testing.assert_frame_equal(found, expected)
    sources = set(index(tmp_path / "out")["source"])
    assert f"{parts}/more/3.zip/s/d.mp4" in sources
    assert f"{parts}/1.tar.gz/s/b.mp4" in sources


def test_one_archive_is_a_folder_of_its_members(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    """Its members are listed once: a run that continues, and a dry run, take what was kept."""
    archive, out = tmp_path / "all.tar.gz", tmp_path / "out"
    write_tar_gz(archive, {"noise.bin": NOISE, **by_id(videos), "more.bin": NOISE})
    assert f"5 videos in {archive}" in vggsound(listed, archive, out)
    require_equal(out, listed / "loose")
    whole, kept = content(out), {path: path.stat().st_mtime_ns for path in (out / "archives").iterdir()}
    for path in (*out.glob("done/train-00000*"), out / "dataset.json"):
        path.unlink()
    assert f"what the archives hold is kept in {out}/archives" in vggsound(listed, archive, out, "--dry-run")
    vggsound(listed, archive, out)
    assert content(out) == whole
    assert {path: path.stat().st_mtime_ns for path in (out / "archives").iterdir()} == kept
    page = data("show", out, "--key", "a_00000000", "--out", tmp_path / "page")
    assert page.exit_code == 0, page.output
    assert "is no longer there" not in (tmp_path / "page" / "contact-sheet.html").read_text()


def test_lists_name_members_as_files(videos: dict[str, bytes], tmp_path: Path) -> None:
    """An archive is a folder in their paths; a name without a suffix is looked for in archives too."""
    (tmp_path / "v").mkdir()
    write_tar(tmp_path / "v" / "p.tar", {"s/d d.mp4": videos["d d.mp4"], "c.mkv": videos["c.mkv"]})
    (tmp_path / "list.csv").write_text("file,label\np.tar/s/d d.mp4,dog\nc,cat\np.tar/gone.mp4,dog\n")
    arguments = ("manifest", tmp_path / "list.csv", "--videos", tmp_path / "v", "--out", tmp_path / "out")
    code, text = prepare(*arguments, *SMALL)
    assert code == 0, text
    assert "2 of the 3 files that the lists name" in text
    found = index(tmp_path / "out").set_index("source")["state"].to_dict()
    begin = f"{tmp_path}/v/p.tar"
    assert found == {f"{begin}/s/d d.mp4": "ok", f"{begin}/c.mkv": "ok", f"{begin}/gone.mp4": "missing"}


def test_labels_come_from_folders_in_archives(videos: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    write_tar(tmp_path / "v" / "part.tar", {"dog/a.mp4": videos["a.mp4"], "cat/x/b.mp4": videos["b.mp4"]})
    code, text = prepare(
        "folder", tmp_path / "v", "--labels-from", "folders", "--out", tmp_path / "out", *SMALL
    )
    assert code == 0, text
    assert "Labels from folders: 2, cat (1 files), dog (1 files)" in text


def test_whole_files_in_archives_are_cut_into_clips(videos: dict[str, bytes], tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mp4", 12.0, fps=5)
    write_tar_gz(tmp_path / "long.tar.gz", {"long.mp4": (tmp_path / "long.mp4").read_bytes()})
    assert (
        prepare("folder", tmp_path / "long.tar.gz", "--clips", "all", "--out", tmp_path / "out", *SMALL)[0]
        == 0
    )
    assert sorted(index(tmp_path / "out")["start_s"]) == [0.0, 10.0]
    assert set(index(tmp_path / "out")["state"]) == {"ok"}


def test_what_is_cut_off_costs_its_own_clips(listed: Path, videos: dict[str, bytes], tmp_path: Path) -> None:
    """Of a tar the member that is cut; of a packed one also those after it, which nobody can name; of a zip all."""
    parts = tmp_path / "parts"
    parts.mkdir()
    files = by_id(videos)
    whole = tar_bytes({"a.mp4": files["a.mp4"], "b.mp4": files["b.mp4"]})
    (parts / "cut.tar").write_bytes(whole[: len(whole) - 12_000])
    write_tar_gz(parts / "cut.tar.gz", {"c.mkv": files["c.mkv"], "n.bin": NOISE, "f.mp4": files["a.mp4"]})
    packed = (parts / "cut.tar.gz").read_bytes()
    (parts / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    write_zip(parts / "cut.zip", {"d.mp4": files["d.mp4"]})
    (parts / "cut.zip").write_bytes((parts / "cut.zip").read_bytes()[:-30])
    text = vggsound(listed, parts, tmp_path / "out")
    assert f"{parts}/cut.tar is damaged: it ends inside its member 'b.mp4'" in text
    found = reasons(tmp_path / "out")
    assert (found["a"], found["c"]) == ("ok: ", "ok: ")
    assert found["b"].startswith(f"decode_error: {parts}/cut.tar is cut off: it ends at byte")
    for missing in ("d", "f"):
        assert found[missing].startswith("missing: no video of this clip was found; it may be in an archive")
        assert f"{parts}/cut.tar.gz is damaged: it ends inside its member 'n.bin'" in found[missing]
        assert (
            f"{parts}/cut.zip is damaged: the list of its members, at its end, cannot be read"
            in found[missing]
        )
    again = content(tmp_path / "out")
    for path in (*(tmp_path / "out").glob("done/*"), tmp_path / "out" / "dataset.json"):
        path.unlink()
    vggsound(listed, parts, tmp_path / "out")
    assert content(tmp_path / "out") == again
    write_tar(parts / "cut.tar", {"b.mp4": files["b.mp4"], "a.mp4": files["a.mp4"], "f.mp4": files["a.mp4"]})
    vggsound(listed, parts, tmp_path / "out", "--retry-failed")
    states = json.loads((tmp_path / "out" / "dataset.json").read_text())["states"]
    assert states == {"missing": 2, "ok": 4}


def test_damage_inside_a_packed_tar_costs_its_own_clips(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    """Videos that end before it are prepared, however shortly; that in which it lies, and those after it, are not."""
    files, path = by_id(videos), tmp_path / "all.tar.gz"
    packed = tar_bytes({"n.bin": NOISE, **{f"{name}.mp4": files["a.mp4"] for name in "abcd"}})
    first, second = packed_in_parts(packed, len(packed) - 10_240 - len(files["a.mp4"]))  # in the third
    path.write_bytes(first + BAD_BLOCK + second[1:])
    text = vggsound(listed, path, tmp_path / "out")
    assert f"{path} is damaged: it cannot be unpacked after byte" in text
    found = reasons(tmp_path / "out")
    assert (found["a"], found["b"]) == ("ok: ", "ok: ")
    cut = f"{path} is damaged: it cannot be unpacked after byte {len(first):,}"
    assert found["c"].startswith(f"decode_error: {cut}")
    assert found["d"].startswith("missing: no video of this clip was found; it may be in an archive")
    assert f"{len(first):,} of the file" in found["d"]


def test_a_damaged_header_costs_its_member(listed: Path, videos: dict[str, bytes], tmp_path: Path) -> None:
    files = by_id(videos)
    for name in ("a.tar", "b.tar.gz"):
        (tmp_path / name.split(".")[0]).mkdir()
        packed = bytearray(tar_bytes({"n.txt": b"1", "b.mp4": files["b.mp4"], "a.mp4": files["a.mp4"]}))
        packed[1024 + 150] ^= 1  # in the checksum of the second header
        path = tmp_path / name
        path.write_bytes(packed)
        if name == "b.tar.gz":
            import gzip

            path.write_bytes(gzip.compress(bytes(packed)))
        text = vggsound(listed, path, tmp_path / name.split(".")[0])
        assert "the header at byte 1,024 is damaged" in text
        found = reasons(tmp_path / name.split(".")[0])
        assert found["a"] == "ok: "
        assert "the header at byte 1,024 is damaged" in found["b"]


def test_a_flipped_bit_in_a_packed_member_is_named(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mp4", by_id(videos)["a.mp4"])
        archive.writestr("b.mp4", by_id(videos)["b.mp4"])
    flip(tmp_path / "z.zip", 5_000)
    vggsound(listed, tmp_path / "z.zip", tmp_path / "out", "--decoder", "ffmpeg")  # which opens files itself
    found = reasons(tmp_path / "out")
    assert found["a"].startswith(f"decode_error: {tmp_path}/z.zip is damaged inside this member")
    assert found["b"] == "ok: "


def test_links_and_names_never_lead_out(listed: Path, videos: dict[str, bytes], tmp_path: Path) -> None:
    """Links within the archive are its files, others are counted; of two members of one name the later one is taken."""
    outside = tmp_path / "c.mp4"
    outside.write_bytes(videos["a.mp4"])
    links = [
        member("b.mp4", tarfile.LNKTYPE, "s/a.mp4"),
        member("s/f.mp4", tarfile.SYMTYPE, "./a.mp4"),
        member("c.mp4", tarfile.SYMTYPE, "../c.mp4"),
        member("d.mp4", tarfile.SYMTYPE, str(outside)),
        member("e.mp4", tarfile.SYMTYPE, "e.mp4"),
        member("pipe.mp4", tarfile.FIFOTYPE),
    ]
    named = {"s/a.mp4": b"first", "../d.mp4": b"1", "/e.mp4": b"2", "s\\g.mp4": b"3", "in.zip": b"4"}
    first = tar_bytes(named, links)
    path = tmp_path / "all.tar"
    path.write_bytes(first + tar_bytes({"s/a.mp4": videos["a.mp4"], ".h.mp4": b"5"}))  # as `cat` joins them
    text = vggsound(listed, path, tmp_path / "out")
    assert "3 videos in" in text
    for part in (
        "3 mp4 (a name that leads out of its archive, or cannot be written)",
        "3 mp4 (a link to no file of its archive)",
        "1 mp4 (a later file of its archive has the same name)",
        "1 mp4 (no regular file in its archive)",
        "1 zip (an archive in an archive; unpack it)",
        "1 mp4 (hidden)",
    ):
        assert part in text
    states = {name: found.partition(":")[0] for name, found in reasons(tmp_path / "out").items()}
    assert states == dict.fromkeys("abf", "ok") | dict.fromkeys("cde", "missing")


def test_encrypted_and_oddly_packed_members_say_so(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", b"secret")
        archive.writestr("b.mp4", by_id(videos)["b.mp4"], zipfile.ZIP_BZIP2)
        archive.writestr("c.mkv", by_id(videos)["c.mkv"])
    packed = bytearray(path.read_bytes())
    for magic, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.find(magic) + flags_at] |= 1
    path.write_bytes(packed)
    vggsound(listed, path, tmp_path / "out")
    found = reasons(tmp_path / "out")
    assert found["a"].startswith("decode_error: it is encrypted; unpack the zip with its password")
    assert found["b"].startswith("decode_error: it is compressed by bzip2, which is not read; unpack the zip")
    assert found["c"] == "ok: "


@pytest.mark.parametrize(
    ("name", "packed", "message"),
    [
        ("x.tar", b"<html>410 Gone</html>" * 99, "x.tar is damaged: it is no archive: it is an HTML page"),
        ("x.zip", b"", "x.zip is damaged: it is no archive: the file is empty"),
        ("x.tar.gz", b"\x1f\x8b\x08 nothing", "x.tar.gz is damaged: "),
        ("x.tar", bytes(10_240), "x.tar holds no video"),
        ("x.rar", b"Rar!", "x.rar is an archive of a kind that is not read"),
        ("x.mp4", b"1", "x.mp4 is no folder and no archive (.tar, .tar.gz, .tgz, .zip)"),
    ],
)
def test_an_archive_that_is_none_is_refused(name: str, packed: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(packed)
    code, text = prepare("folder", tmp_path / name, "--out", tmp_path / "out", *SMALL)
    assert code == 1
    assert message in text


def test_a_part_that_changes_between_runs_is_listed_again(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    """Its members have moved; one is gone, which is missing then."""
    files, part = by_id(videos), tmp_path / "part.tar"
    write_tar(part, files)
    whole, out = tmp_path / "whole", tmp_path / "out"
    vggsound(listed, part, whole)
    shutil.copytree(whole, out)
    for path in (*out.glob("done/*"), out / "dataset.json"):
        path.unlink()
    write_tar(part, dict(reversed(files.items())))
    vggsound(listed, part, out)
    assert content(out) == content(whole)
    for path in (*out.glob("done/*"), out / "dataset.json"):
        path.unlink()
    write_tar(part, {name: file for name, file in files.items() if name != "b.mp4"})
    vggsound(listed, part, out)
    assert reasons(out)["b"] == f"missing: {part}/b.mp4 is not there"
    assert reasons(out)["a"] == "ok: "


def test_a_part_that_changes_meanwhile_ends_the_run(
    videos: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listed places are another file's now; finished shards are kept, and the same command goes on."""
    part, out = tmp_path / "part.tar", tmp_path / "out"
    files = {"a.mp4": videos["a.mp4"], "b.mp4": videos["b.mp4"], "c.mkv": videos["c.mkv"]}
    write_tar(part, files)
    make, made = runner.process_shard, list[str]()

    def changing(task: ShardTask, decoder: DecoderProcess, on_clip: OnClip) -> DoneRecord:
        if made:
            write_tar(part, dict(reversed(files.items())))
        made.append(task.rows[0].shard)
        return make(task, decoder, on_clip)

    monkeypatch.setattr(runner, "process_shard", changing)
    code, text = prepare("folder", part, "--out", out, *SMALL)
    assert code == 1
    assert f"{part} has changed since its members were listed. Repeat the command" in text
    assert [path.stem for path in out.glob("done/*")] == made[:1]
    monkeypatch.undo()
    assert prepare("folder", part, "--out", out, *SMALL)[0] == 0
    assert set(index(out)["state"]) == {"ok"}


def test_moved_archives_are_found_in_their_new_folder(
    listed: Path, videos: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    write_tar_gz(tmp_path / "one" / "all.tar.gz", by_id(videos))
    out = tmp_path / "out"
    vggsound(listed, tmp_path / "one", out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "archives").iterdir()}
    for path in (*out.glob("done/*"), out / "dataset.json"):
        path.unlink()
    os.rename(tmp_path / "one", tmp_path / "two")
    assert "5 of 5 planned videos are in" in vggsound(listed, tmp_path / "two", out, "--videos-moved")
    require_equal(out, listed / "loose")
    assert {path: path.stat().st_mtime_ns for path in (out / "archives").iterdir()} == kept
