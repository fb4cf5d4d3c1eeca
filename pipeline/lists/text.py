"""Decodes texts that users write: UTF-8, or UTF-16 as spreadsheets save it; a byte order mark is no part of the text."""

from cavsync.pipeline.storage.path import AnyPath

_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def encoding_of(path: AnyPath) -> str:
    """The name of the file's encoding, by its first bytes."""
    with path.open("rb") as start:
        return _BYTE_ORDER_MARKS.get(start.read(2), "utf-8-sig")


def read_text(path: AnyPath) -> str:
    """The whole text, with \\n at the end of lines. Raises UnicodeDecodeError for what is no text."""
    with path.open(encoding=encoding_of(path)) as file:
        return file.read()
