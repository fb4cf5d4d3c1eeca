"""Which files are meant by VIDEO, FOLDER or LIST."""

from pathlib import Path

from cavsync.errors import CavsyncError

# Of files in a folder; a file that is named is taken whatever its suffix.
VIDEO_SUFFIXES = {
    ".mp4",
    ".mkv",
    ".webm",
    ".avi",
    ".mov",
    ".m4v",
    ".ts",
    ".mpg",
    ".mpeg",
    ".flv",
    ".wmv",
    ".3gp",
    ".ogv",
}
SOUND_SUFFIXES = {".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma"}
LIST_SUFFIXES = {".txt", ".lst"}
# A text of this size or more is no list.
MAX_LIST_BYTES = 100 * 2**20


class SourceListError(CavsyncError):
    """Nothing to embed where the user pointed."""


def list_files(source: Path) -> list[Path]:
    """The media of a folder and its sub-folders by suffix, the lines of a .txt list, or the one file; each once."""
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if _is_medium(path, source))
        if not found:
            kinds = " ".join(sorted(VIDEO_SUFFIXES | SOUND_SUFFIXES))
            raise SourceListError(f"{source} holds no video and no audio file; known suffixes are {kinds}.")
        return found
    if not source.is_file():
        raise SourceListError(
            f"{source} is not there: give a video, a folder, or a .txt list with a path in each line."
        )
    return _listed(source) if source.suffix.lower() in LIST_SUFFIXES else [source]


def _is_medium(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in VIDEO_SUFFIXES | SOUND_SUFFIXES and path.is_file()


def _listed(source: Path) -> list[Path]:
    """Paths relative to the list's folder; empty lines and those that begin with # are left out."""
    if source.stat().st_size > MAX_LIST_BYTES:
        raise SourceListError(f"{source} is too large for a list of paths.")
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise SourceListError(
            f"{source} is no text in UTF-8; a list has the path of a file in each line."
        ) from error
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise SourceListError(f"{source} names no file; a list has the path of a file in each line.")
    return list(dict.fromkeys(source.parent / line for line in named))
