"""Proves that a packed file is unpacked from every seek point on as from its beginning."""

import gzip
import io
import random
import sys
import zlib
from pathlib import Path

import indexed_gzip
import pytest
from support.archives.packing import tar_bytes

from cavsync.pipeline.archives import gzip_members, unpacked_stream
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.archives.gzip_members import ArchiveReaderError, list_packed_tar
from cavsync.pipeline.storage.inflate import unpacked

GENERATOR = random.Random(3)


def text(num_bytes: int) -> bytes:
    """Words that repeat, and noise between them: blocks of all kinds, with references far back."""
    words = [GENERATOR.randbytes(GENERATOR.randrange(3, 40)) for _ in range(200)]
    num_parts = num_bytes // 3_000 + 1
    parts = [b"".join(GENERATOR.choices(words, k=400)) + GENERATOR.randbytes(3_000) for _ in range(num_parts)]
    return b"".join(parts)[:num_bytes]


@pytest.mark.parametrize("streams", [1, 3], ids=["one stream", "streams that were joined"])
def test_every_seek_point_gives_the_rest_of_the_stream(
    streams: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked_stream, "SPACING_BYTES", 50_000)
    monkeypatch.setattr(unpacked_stream, "READ_BYTES", 10_000)
    # Noise is stored as it is, as most of a video is; stored blocks begin at whole bytes.
    mixed = text(200_000) + GENERATOR.randbytes(150_000) + text(150_000)
    content = tar_bytes({"a.mp4": text(300_000), "b.mp4": mixed, "c.mp4": text(50)})
    length = -(-len(content) // streams)
    packed = b"".join(
        gzip.compress(content[start : start + length], 6) for start in range(0, len(content), length)
    )
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed + bytes(700))  # padded, as on a tape
    with (tmp_path / "windows").open("w+b") as windows:
        found = list_packed_tar(path, windows)
        assert len(found.points) > 8
        assert len({point.bit % 8 for point in found.points}) > 3
        for point in found.points:
            windows.seek(point.window[0])
            kept = windows.read(point.window[1] - point.window[0])
            window = zlib.decompress(kept) if kept else b""
            rest = len(content) - point.first
            with path.open("rb") as file:
                assert unpacked(file, point.bit, window, rest + 99) == content[point.first :]
                assert unpacked(file, point.bit, window, 1000) == content[point.first :][:1000]


def test_a_short_file_is_unpacked_from_its_header() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"two")
    assert unpacked(io.BytesIO(packed), 0, b"", 99) == b"onetwo"
    with pytest.raises(zlib.error):
        unpacked(io.BytesIO(b"\x1f\x8b\x08" + b"no" * 30), 0, b"", 99)


def test_the_layout_of_an_index_is_known(tmp_path: Path) -> None:
    """indexed_gzip promises none; another version of it would show here."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"abc"))
    file = indexed_gzip.IndexedGzipFile(str(tmp_path / "a.gz"))
    file.build_full_index()
    file.export_index(str(tmp_path / "index"))
    assert (tmp_path / "index").read_bytes()[:7] == b"GZIDX\x01\x00"


def test_a_killed_reader_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a run is interrupted, or memory is short: nothing is known of the file then."""
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_bytes({"a.mp4": b"1"})))
    archives = ArchiveSet(tmp_path, tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/sh")
        patch.setattr(gzip_members, "READER", ("-c", "kill -9 $$"))
        with pytest.raises(ArchiveReaderError, match="SIGKILL ended its reader"):
            archives.content(tmp_path / "a.tar.gz")
        assert not list((tmp_path / "kept").iterdir())
        patch.setattr(gzip_members, "READER", ("-c", "kill -SEGV $$"))
        assert archives.content(tmp_path / "a.tar.gz").damage == "its reader died (SIGSEGV)"
