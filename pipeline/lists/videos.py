"""Finds the video of each listed clip: one scan of the folder, then lookups by name."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import CavsyncError
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.archives.names import ARCHIVE_SUFFIXES, is_other_archive_name
from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.lists.media_folder import LeftOut, find_media
from cavsync.pipeline.lists.names import SAFE_NAME
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES, VIDEO_SUFFIXES, suffix_list, suffix_of
from cavsync.pipeline.storage.path import AnyPath, each
from cavsync.pipeline.storage.remote_path import RemotePath

# What `ID.mp4` holds, without a time in its name: the whole upload, or the clip already cut out of it.
Holds = Literal["whole", "cut"]
# The ends of a cut clip's name: _000030, _30.000, _30000_40000.
TIME_IN_NAME = r"_([0-9]{6}|[0-9]+\.[0-9]{3}|[0-9]+_[0-9]+)$"


class SourceError(CavsyncError):
    """A folder of videos is absent, empty or has an invalid name."""


Column = Any  # an Arrow column of strings or numbers; the stubs of pyarrow cannot say so
# Joins columns of strings row by row, with the last argument as separator (which the stubs forbid).
_joined: Any = pc.binary_join_element_wise
_index_in: Any = pc.index_in


@dataclass(frozen=True)
class VideoTree:
    """Every video under a folder, sorted by path relative to it."""

    root: AnyPath
    paths: pa.StringArray
    holds: Holds = "whole"  # what files named by an id alone hold
    note: str = ""  # what else is known about the files, for messages
    left_out: LeftOut = field(default_factory=LeftOut)
    damaged: Sequence[str] = ()  # a sentence for each archive whose members are not all known

    def __len__(self) -> int:
        return len(self.paths)

    def names(self) -> list[str]:
        return list(map(str, self.paths.to_pylist()))

    def located(self, paths: Column) -> Column:
        """Paths or URLs of videos, from their paths below the root, which may be null."""
        if isinstance(self.root, RemotePath) and self.root.is_http:
            quoted = [None if path is None else self.root.quoted(path) for path in paths.to_pylist()]
            paths = pa.array(quoted, pa.string())
        return _joined(str(self.root), paths, "/")

    def stems(self) -> Column:
        """File names without folder and suffix, one for each file."""
        return pc.replace_substring_regex(self.paths, r"(?s)^.*/|\.[^./]*$", "")

    def named_by_id(self) -> Column:
        """For each file, whether its name is an id without a time."""
        is_id: Any = pc.match_substring_regex(self.stems(), f"^{SAFE_NAME.pattern}$")
        return pc.and_(is_id, pc.invert(self.named_by_time()))

    def named_by_time(self) -> Column:
        """For each file, whether its name ends with a time."""
        return pc.match_substring_regex(self.stems(), TIME_IN_NAME)

    def describe(self) -> str:
        suffixes: Any = pc.replace_substring_regex(self.paths, r"(?s)^.*\.|\s+$", "")
        counts = {
            one["values"]: one["counts"] for one in pc.value_counts(pc.utf8_lower(suffixes)).to_pylist()
        }
        formats = ", ".join(f"{n:,} {kind}" for kind, n in Counter(counts).most_common())
        note = f": {self.note}" if self.note else ""
        return f"{len(self):,} videos in {self.root} ({formats}){note}"


def scan(root: AnyPath, archives: ArchiveSet | None = None) -> VideoTree:
    """All files with a video's suffix that are not hidden, also in archives. Raises SourceError for a folder or archive that
    is missing or has none.
    """
    archives = archives or ArchiveSet(root)
    require_videos_folder(root, archives, "it should hold the videos")
    found = find_media(root, VIDEO_SUFFIXES, archives)
    if not found.paths:
        damaged = "".join(f" {sentence}" for sentence in found.damaged)
        left_out = f" Left out: {found.left_out.describe()}." if found.left_out else ""
        raise SourceError(
            f"{root} holds no video (looked for {suffix_list(VIDEO_SUFFIXES)}, in sub-folders and archives too)."
            f"{damaged}{left_out}{_hint(root)}"
        )
    paths = pa.array(found.paths, pa.string())
    return VideoTree(root.resolve(), paths, left_out=found.left_out, damaged=found.damaged)


def require_videos_folder(root: AnyPath, archives: ArchiveSet, what: str) -> None:
    """Raises SourceError where `root` is neither a folder nor an archive that is read; `what` says what it should be."""
    if archives.is_archive(root) or root.is_dir():
        return
    kinds = ", ".join(ARCHIVE_SUFFIXES)
    if is_other_archive_name(root.name) and root.is_file():
        raise SourceError(
            f"{root} is an archive of a kind that is not read (of archives, {kinds} are); unpack it."
        )
    raise SourceError(f"{root} is no folder and no archive ({kinds}); {what}.")


def _hint(root: AnyPath) -> str:
    if not isinstance(root, RemotePath) or not root.is_http:
        return ""
    return (
        " An HTTP server shows its files on pages of links, if at all; a list can name them (--file-column)."
    )


def listed_files(
    root: AnyPath, sources: Iterable[str | None], archives: ArchiveSet | None = None
) -> VideoTree:
    """The tree of the existing files among those that lists name. Raises SourceError when none exists."""
    archives = archives or ArchiveSet(root)
    named = sorted({source for source in sources if source is not None})
    prefix = f"{root.resolve()}/"
    exists = each(archives.is_there, named, root)
    found = [source.removeprefix(prefix) for source, is_there in zip(named, exists, strict=True) if is_there]
    if not found:
        example = named[0] if named else "no file"
        tried = suffix_of(example) not in MEDIA_SUFFIXES
        suffixes = f" Names without a suffix were tried with {suffix_list(VIDEO_SUFFIXES)}." if tried else ""
        raise SourceError(
            f"None of the {len(named):,} files that the lists name exists, such as {example}.{suffixes}"
        )
    note = f"{len(found):,} of the {len(named):,} files that the lists name"
    return VideoTree(root.resolve(), pa.array(found, pa.string()), note=note)


def find_sources(
    tree: VideoTree, clips: pa.Table, layout: VideoLayout, listed: pa.Table
) -> tuple[Column, Column]:
    """Path of the video (null: none) and start of the clip inside it, (rows,) each.

    `clips` has the plan's columns clip_id, start_s and end_s, and so has `listed`, which is all that is listed. A file
    whose name has the clip's time comes before one named by the id alone; among files of the same name the first by path
    is taken. A cut clip named by an id alone belongs to none of several clips of that id: it may be any of them.
    """
    stems = tree.stems()
    cut_names, whole_name = _names(clips)
    cut: Any = pc.coalesce(*[_index_in(name, value_set=stems) for name in cut_names])
    whole = _index_in(whole_name, value_set=stems)
    is_cut = _is_cut(tree, layout)
    if is_cut:
        is_shared = pc.is_in(clips["clip_id"], value_set=_ids_of_several_clips(listed))
        whole = pc.if_else(is_shared, pa.scalar(None, pa.int32()), whole)
    start_in_whole = pc.multiply(clips["start_s"], 0.0) if is_cut else clips["start_s"]
    start_s = pc.if_else(pc.is_valid(cut), pa.scalar(0.0), start_in_whole)
    source = tree.located(pc.take(tree.paths, pc.coalesce(cut, whole)))
    return source, pc.if_else(pc.is_valid(source), start_s, pa.scalar(None, pa.float64()))


def num_undecided(tree: VideoTree, planned: pa.Table, layout: VideoLayout) -> int:
    """Number of clips without a video that share a file: it is a cut clip, and its name does not say of which of them."""
    if not _is_cut(tree, layout):
        return 0
    left = planned.filter(pc.and_(pc.is_null(planned["source"]), pc.invert(planned["duplicate"])))
    is_shared = pc.is_in(left["clip_id"], value_set=_ids_of_several_clips(planned))
    has_file = pc.is_in(left["clip_id"], value_set=tree.stems())
    return pc.sum(pc.and_(is_shared, has_file)).as_py() or 0


def several_files(tree: VideoTree, planned: pa.Table) -> list[str]:
    """For each clip that was found by a name that several files have, these files, such as "a.mkv, a.mp4"."""
    stems = tree.stems()
    counted: Any = pc.value_counts(stems)
    repeated = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
    if not len(repeated):
        return []
    used = pc.replace_substring_regex(planned["source"], r"(?s)^.*/|\.[^./]*$", "")
    names = pc.unique(used.filter(pc.is_in(used, value_set=repeated))).to_pylist()
    is_named = pc.is_in(stems, value_set=pa.array(names, pa.string()))
    files: dict[str, list[str]] = {}
    for stem, path in zip(
        stems.filter(is_named).to_pylist(), tree.paths.filter(is_named).to_pylist(), strict=True
    ):
        files.setdefault(stem, []).append(path)
    return [", ".join(paths) for paths in files.values()]


def _is_cut(tree: VideoTree, layout: VideoLayout) -> bool:
    return (tree.holds if layout == "auto" else layout) == "cut"


def _ids_of_several_clips(listed: pa.Table) -> pa.StringArray:
    starts = (
        listed.select(["clip_id", "start_s"]).group_by("clip_id").aggregate([("start_s", "count_distinct")])
    )
    several: Any = starts.filter(pc.greater(starts["start_s_count_distinct"], 1))["clip_id"]
    return several.combine_chunks()


def example_names(row: PlanRow) -> list[str]:
    """Possible file names of the video of a plan row."""
    columns = {"clip_id": row.clip_id, "start_s": row.start_s, "end_s": row.end_s}
    cut, whole = _names(pa.Table.from_pylist([columns]))
    return [f"{name[0]}.mp4" for name in (*cut, whole)]


def _names(clips: pa.Table) -> tuple[list[Column], Column]:
    """File stems of a cut clip (ID_000030, ID_30.000, ID_30000_40000), and of a whole upload (ID)."""
    ids = clips["clip_id"]
    start_ms, end_ms = (
        pc.cast(pc.round(pc.multiply(clips[c], 1000.0)), pa.int64()) for c in ("start_s", "end_s")
    )
    seconds = pc.divide(start_ms, 1000)
    thousandths = pc.subtract(start_ms, pc.multiply(seconds, 1000))
    text = {
        "seconds": pc.cast(seconds, pa.string()),
        "thousandths": pc.utf8_lpad(pc.cast(thousandths, pa.string()), 3, "0"),
        "start_ms": pc.cast(start_ms, pa.string()),
        "end_ms": pc.cast(end_ms, pa.string()),
    }
    decimal = _joined(text["seconds"], text["thousandths"], ".")
    cut = [
        _joined(ids, pc.utf8_lpad(text["seconds"], 6, "0"), "_"),
        _joined(ids, decimal, "_"),
        _joined(ids, text["start_ms"], text["end_ms"], "_"),
    ]
    return cut, ids
