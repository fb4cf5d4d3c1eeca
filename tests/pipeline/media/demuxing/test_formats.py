"""Proves that every suffix that is looked for has a demuxer that is allowed, and that a refused file's reason names it."""

import io
import sqlite3
import zipfile
from pathlib import Path

import av
import pytest
from PIL import Image
from support.media import run_ffmpeg

from cavsync.pipeline.media.demuxing.formats import (
    FORMATS,
    MEDIA_SUFFIXES,
    reason_against,
    refusal,
    suffix_of,
)

VIDEO = ("-f", "lavfi", "-i", "testsrc2=d=1:s=720x576:r=25")
AUDIO = ("-f", "lavfi", "-i", "sine=d=1:r=48000")
# Suffix -> options of ffmpeg for a file of that suffix; for the others ffmpeg has no muxer.
WRITTEN = {
    **dict.fromkeys(["mp4", "m4v", "mov", "f4v", "ismv", "mkv", "avi", "wmv", "asf", "ogv", "nut"], ()),
    **dict.fromkeys(["webm", "ts", "m2ts", "mts", "m2t", "mpg", "mpeg", "vob", "flv", "m1v", "m2v"], ()),
    "3gp": ("-c:v", "mpeg4", "-c:a", "aac"),
    "3g2": ("-c:v", "mpeg4", "-c:a", "aac"),
    "qt": ("-f", "mov"),
    "divx": ("-f", "avi"),
    "m2p": ("-f", "dvd"),
    "tod": ("-f", "mpegts"),
    "mxf": ("-c:v", "mpeg2video", "-c:a", "pcm_s16le"),
    "dv": ("-target", "pal-dv", "-ac", "2"),
    "rm": (),
    **dict.fromkeys(
        ["wav", "w64", "mp3", "mp2", "m4a", "m4b", "aac", "flac", "ogg", "oga", "opus"], ("-vn",)
    ),
    **dict.fromkeys(["wma", "aiff", "aif", "aifc", "ac3", "eac3", "caf", "au", "mka", "ra", "wv"], ("-vn",)),
    "tta": ("-vn",),
}


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_of_each_suffix_is_opened(suffix: str, tmp_path: Path) -> None:
    assert f".{suffix}" in MEDIA_SUFFIXES
    path = tmp_path / f"clip.{suffix}"
    if suffix == "webm":  # the default codec is slow
        run_ffmpeg(*VIDEO, *AUDIO, "-c:v", "libvpx", "-cpu-used", "8", path)
    else:
        run_ffmpeg(*VIDEO, *AUDIO, *WRITTEN[suffix], path)
    with av.open(str(path), options={"format_whitelist": FORMATS}) as media:
        assert next(media.demux()).size


def test_ffmpeg_knows_every_allowed_format() -> None:
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(FORMATS.split(",")) <= known


def image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("clip.mp4", b"1234")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (bytes(5000), "the file begins with 4,096 zero bytes; was its download finished?"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\nother.ts\n", "it is a play list or script"),
        (b"\xef\xbb\xbf#EXTM3U\nother.ts\n", "it is a play list or script"),
        (b"ffconcat version 1.0\nfile target.bin\n", "it is a play list or script"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "it is a play list or script"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<MPD xmlns="urn">', "it is a play list or script"),
        (b'<smil><body><video src="http://a/b"/></body></smil>', "it is a play list or script"),
        (b"[playlist]\nFile1=http://a/b\n", "it is a play list or script"),
        (b"\n <!DOCTYPE html><html>410 Gone</html>", "it is an HTML page"),
        (b"<html>", "it is an HTML page"),
        (b"410 Gone", "it is text"),
        ("interface Größe {}".encode() * 300, "it is text"),
        (image("JPEG"), "it is a JPEG image"),
        (image("PNG"), "it is a PNG image"),
        (image("GIF"), "it is a GIF image"),
        (image("BMP"), "it is a BMP image"),
        (image("TIFF"), "it is a TIFF image"),
        (image("WEBP"), "it is a WebP image"),
        (b"%PDF-1.7\n%\xe2\xe3", "it is a PDF document"),
        (archive(), "it is a zip archive; unpack it"),
        (b"YUV4MPEG2 W8 H8 F25:1\n", "it is raw frames without audio"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "it is a pointer of Git LFS"),
    ],
)
def test_a_file_that_is_no_media_is_named_by_its_content(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert refusal(None, path).startswith(reason)


def test_media_in_another_format_has_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\x01\x02\x03\xfe" * 100)
    assert refusal(None, path).endswith("convert it, for example with ffmpeg -i FILE -c copy FILE.mkv")
    assert "its format, wtv, is rarely used" in refusal("wtv", path)
    sqlite3.connect(tmp_path / "x.db").executescript("create table a (b);")
    assert refusal(None, tmp_path / "x.db") == "it is an SQLite database"
    assert refusal(None, tmp_path / "gone.mp4").startswith("it is in none of the formats")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hls", "which names other files"),
        ("concat", "which names other files"),
        ("png_pipe", "an image or a sequence of images"),
        ("image2", "an image or a sequence of images"),
        ("rtsp", "a network stream"),
        ("h264", "a raw stream"),
        ("srt", "text or subtitles"),
        ("video4linux2,v4l2", "a device"),
        ("bink", "rarely used"),
    ],
)
def test_every_other_format_has_a_reason(name: str, reason: str) -> None:
    assert reason in reason_against(name)
    assert not set(name.split(",")) & set(FORMATS.split(","))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.MP4", ".mp4"),
        ("a.mp4 ", ".mp4"),
        ("b/a.b.Mts", ".mts"),
        ("a", ""),
        (".mp4", ""),
        ("a.mp4.part", ".part"),
    ],
)
def test_a_suffix_is_the_last_one_in_lower_case(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
