"""Which files may hold video or audio, by suffix, and which of FFmpeg's demuxers may open them. Loads no decoder.

A suffix decides what is looked for in a folder. The demuxers of `FORMATS` decide what is opened, whatever the suffix:
FFmpeg recognises a file by its content, and some formats name further files and addresses to read.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cavsync.pipeline.storage.path import MediaPath, as_path, read_range

# Containers that may hold both frames and audio: QuickTime and MP4 (.insv, .lrv and .360 are of action cameras), Matroska,
# AVI, MPEG streams of broadcast, camcorders and discs, and others. An .ogg is a Theora video as often as audio.
_VIDEO = (
    "mp4 m4v mov qt 3gp 3gpp 3g2 3gp2 f4v mj2 ismv insv lrv 360 mkv mk3d webm avi divx xvid "
    "ts m2ts mts m2t trp tp mpg mpeg mpe mpv m1v m2v mp2v m2p ps vob evo vro mod tod "
    "flv wmv asf ogv ogm ogx ogg mxf rm rmvb rv dv dif nut"
)
# Containers of audio, which a preparation leaves out.
_AUDIO = (
    "wav wave w64 mp3 mp2 mpa m4a m4b aac flac oga opus spx wma amr awb aiff aif aifc ac3 eac3 caf au snd mka weba ra "
    "wv ape tta"
)
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEO.split())
AUDIO_SUFFIXES = frozenset(f".{name}" for name in _AUDIO.split())
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES

# FFmpeg's names of the demuxers that may open a file, by group, each with the reason.
_ALLOWED = {
    "phones, cameras, the web": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,ogg",
    "broadcast, camcorders, discs; mpegvideo is an .m2v or .mpg without a container": "mpegts,mpeg,mpegvideo,mxf,dv",
    "older recorders and downloads": "asf,rm,nut",
    "audio, compressed": "mp3,aac,flac,ac3,eac3,amr,ape,wv,tta",
    "audio, plain samples with a header": "wav,w64,aiff,caf,au",
}
FORMATS = ",".join(_ALLOWED.values())

# The others, by the reason for which they are not opened.
_REFUSED = {
    "a play list or script, which names other files and addresses, and those are not followed": (
        "applehttp hls dash concat concatf imf ffmetadata sdp webm_dash_manifest lavfi tedcaptions"
    ),
    "a network stream, and only files are read": "rtp rtsp sap rtmp live_flv mpegtsraw msnwctcp",
    "an image or a sequence of images, not a video": "image2 image2pipe gif apng ico jpegxl_anim fits alias_pix brender_pix",
    "text or subtitles, not a video": (
        "ass srt webvtt sami subviewer subviewer1 microdvd mpl2 mpsub jacosub lrc pjs realtext scc stl vplayer aqtitle "
        "tty bin xbin adf idf mcc sbg rcwt sup vobsub dvbsub dvbtxt"
    ),
    "a raw stream without a container, which says neither times nor rates": (
        "rawvideo h261 h263 h264 hevc vvc av1 obu evc apv m4v mjpeg mjpeg_2000 vc1 dirac dnxhd cavsvideo avs2 avs3 "
        "data alaw mulaw g722 g726 g726le gsm sbc aptx aptx_hd yuv4mpegpipe ivf"
    ),
    "a device": "alsa oss fbdev kmsgrab x11grab video4linux2 v4l2",
}
_PIPES = "_pipe"
_OTHER = "rarely used, so its demuxer is little tested and is not opened"
_WAY_OUT = "ffmpeg -i FILE -c copy FILE.mkv"

# What a file begins with that is no media, or media that is not opened. Longer signatures come first where one begins another.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"\0\0\1\0", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip-compressed; unpack it"),
    (b"BZh", "bzip2-compressed; unpack it"),
    (b"\xfd7zXZ\0", "xz-compressed; unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a rar archive; unpack it"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"MThd", "a MIDI file, which holds notes, not audio"),
    (b"DKIF", f"an IVF stream of video alone; put it into a container, for example {_WAY_OUT}"),
    (b"YUV4MPEG2", f"raw frames without audio; put them into a container, for example {_WAY_OUT}"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS in place of the file; fetch the file with git lfs pull",
    ),
)
_PLAY_LISTS = re.compile(
    rb"#EXTM3U|ffconcat|\[playlist\]|\[reference\]|;FFMETADATA|v=0\r?\no=|rtspt?://"
    rb"|(<\?xml.*?\?>|<!--.*?-->|\s)*<(MPD|smil|asx|playlist|SmoothStreamingMedia)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML = re.compile(
    rb"(<\?xml.*?\?>|<!--.*?-->|\s)*<(!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_HEAD_BYTES = 4096
_CONTROL = frozenset(range(0x20)) - set(b"\t\n\r\f\x1b") | {0x7F}


def suffix_of(name: str) -> str:
    """The suffix in lower case, with its dot and without spaces at its end; empty where there is none."""
    return PurePosixPath(name.rstrip()).suffix.lower()


def suffix_list(suffixes: Iterable[str]) -> str:
    """The suffixes for a message: the usual ones of videos first."""
    usual = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
    known = set(suffixes)
    ordered = [suffix for suffix in usual if suffix in known] + sorted(known - set(usual))
    return ", ".join(suffix[1:] for suffix in ordered)


def refusal(format_name: str | None, path: str | MediaPath) -> str:
    """A sentence without its full stop: why FFmpeg did not open the file, and what to do where that is known.

    `format_name` is FFmpeg's name of the demuxer that is not in `FORMATS`, or None where it is unknown. The file's first
    bytes are compared with known ones; it is opened by no demuxer, since that might follow a script to other files.
    """
    content = content_that_is_no_media(path)
    if content is not None:
        return content
    if format_name is not None:
        return f"its format, {format_name}, is {reason_against(format_name)}; convert it, for example with {_WAY_OUT}"
    return (
        f"it is in none of the formats that are opened ({FORMATS}); convert it, for example with {_WAY_OUT}"
    )


def content_that_is_no_media(path: str | MediaPath) -> str | None:
    """What the file holds in place of video or audio, by its first bytes; None where it may be media."""
    head = _head(path)
    return None if head is None else _content(head)


def reason_against(format_name: str) -> str:
    """Why a demuxer with that name of FFmpeg's, which may be several joined by commas, is not in `FORMATS`."""
    names = set(format_name.split(","))
    for reason, members in _REFUSED.items():
        if names & set(members.split()):
            return reason
    if any(name.endswith(_PIPES) for name in names):
        return "an image or a sequence of images, not a video"
    return _OTHER


def _content(head: bytes) -> str | None:
    """What a file that begins like that holds; None where it may be media."""
    if not head:
        return "the file is empty"
    if not any(head):
        return f"the file begins with {len(head):,} zero bytes; was its download finished?"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PLAY_LISTS.match(text):
        return "it is a play list or script, which names other files and addresses; those are not followed"
    if _HTML.match(text):
        return "it is an HTML page, which a server may have sent in place of the video"
    for signature, meaning in _SIGNATURES:
        if head.startswith(signature):
            return f"it is {meaning}"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "it is a WebP image"
    return "it is text" if not _CONTROL & set(head) and _is_utf8(head) else None


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # the last character is cut
    return True


def _head(path: str | MediaPath) -> bytes | None:
    """The first bytes; None where they cannot be read."""
    where = as_path(path)
    try:
        if isinstance(where, Path) and not where.is_file():  # a pipe would wait for its writer
            return None
        return read_range(where, 0, _HEAD_BYTES)
    except OSError:
        return None
