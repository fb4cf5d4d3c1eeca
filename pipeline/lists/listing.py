"""The input of a preparation: a dataset's lists in the conventional layout, or any list; folder.py has the folder of videos."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.lists.clip_list import DEFAULT_CLIP_S, ListedClip, read_list, splits_in
from cavsync.pipeline.lists.manifest import ListSpec, Manifest
from cavsync.pipeline.lists.named_files import NamedFiles
from cavsync.pipeline.lists.names import FileIds
from cavsync.pipeline.lists.tables import ListError, rows_by_title, titles_of
from cavsync.pipeline.lists.upload_layout import with_layout
from cavsync.pipeline.lists.videos import SourceError, VideoTree, listed_files, require_videos_folder, scan
from cavsync.pipeline.storage.path import AnyPath, sha256

# What a listing was made from. Only a description names its dataset; the others take the name of a folder.
Origin = Literal["folder", "lists", "description"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The clips of a dataset, and where their videos are.

    `clips` and `tree` are functions, so that a run with a plan reads neither lists nor folders again.
    """

    name: str
    made_from: Origin
    splits: Mapping[str, str]  # name -> role ("train", "test")
    lists: Mapping[str, str]  # name of each list -> sha256
    clips: Callable[
        [Mapping[str, str]], Iterable[ListedClip]
    ]  # of the ids of planned sources, which files keep
    videos: AnyPath
    tree: Callable[[], VideoTree]
    archives: ArchiveSet  # those among the videos
    names_files: bool = False  # whether clips have a source, in place of an id by which their video is found
    named: NamedFiles | None = None  # completes the names of files in lists
    layout: VideoLayout = "whole"
    labels: Sequence[str] = ()  # in class order; empty: those that the lists hold, sorted
    label_names: Sequence[str] = ()
    notes: Sequence[str] = ()  # lines for the user about a new plan
    published_rows: Mapping[str, int] = field(default_factory=dict)  # of lists that have an official size


# Splits of a user's lists that are not for training.
TEST_SPLITS = {"test", "testing", "eval", "evaluation", "val", "valid", "validation", "dev"}

# Columns that say where in its file a clip begins.
TIMED = {"start_s", "name"}
# Columns of the CSV that orders the classes.
LABEL_TITLES = ("index", "mid", "display_name")


@dataclass(frozen=True)
class _ListFile:
    path: AnyPath
    spec: ListSpec

    def digest(self) -> str:
        """Hash of the content, followed by the columns where the user chose them."""
        if not self.spec.titles:
            return sha256(self.path)
        chosen = ",".join(map("=".join, zip(self.spec.columns, self.spec.titles, strict=True)))
        return f"{sha256(self.path)} {chosen}"


def official_listing(
    manifest: Manifest,
    root: AnyPath,
    videos: AnyPath | None,
    lists: Sequence[AnyPath],
    layout: VideoLayout,
    archive_index: AnyPath | None = None,
) -> Listing:
    """The dataset's lists in `root`/raw/<name>/ and its videos in videos/ there, or the given ones; what archives among
    them hold is kept in the folder `archive_index`.

    Raises ListError or SourceError, which name what is missing, the folder searched and the source of the lists.
    """
    if manifest.read_by:
        raise ListError(f"{manifest.title} has no videos to prepare; `{manifest.read_by}` reads it as it is.")
    raw = root / "raw" / manifest.name
    files = _given_lists(manifest, lists) if lists else _default_lists(manifest, raw)
    folder = videos or raw / "videos"
    archives = ArchiveSet(folder, archive_index)
    if not archives.is_archive(folder) and not folder.is_dir():
        where = f" {manifest.homepage} lists the videos." if manifest.homepage else ""
        raise SourceError(
            f"No videos of {manifest.title}: {folder} is no folder. Put them there or name their folder or archive "
            f"with --videos. cavsync downloads none.{where}"
        )
    labels = _labels(manifest, [raw, *(file.path.parent for file in files)])
    return Listing(
        name=manifest.name,
        made_from="description",
        splits=manifest.splits,
        published_rows={file.path.name: file.spec.count for file in files if file.spec.count},
        labels=[label for label, _ in labels],
        label_names=[name for _, name in labels],
        **_sources(files, folder, layout, archives),
    )


def list_listing(
    name: str,
    lists: Sequence[AnyPath],
    spec: ListSpec,
    videos: AnyPath,
    layout: VideoLayout,
    archive_index: AnyPath | None = None,
) -> Listing:
    """Clips of a user's lists with the columns of `spec`; splits in TEST_SPLITS are for testing. What archives among the
    videos hold is kept in the folder `archive_index`.
    """
    files, archives = [_ListFile(path, spec) for path in lists], ArchiveSet(videos, archive_index)
    require_videos_folder(videos, archives, "--videos names the one that holds the videos")
    splits = sorted(set().union(*(splits_in(file.path, spec) for file in files)))
    roles = {split: "test" if split.lower() in TEST_SPLITS else "train" for split in splits}
    return Listing(name=name, made_from="lists", splits=roles, **_sources(files, videos, layout, archives))


def _sources(
    files: Sequence[_ListFile], videos: AnyPath, layout: VideoLayout, archives: ArchiveSet
) -> dict[str, Any]:
    """The fields of a Listing that find clips and videos."""
    names = [file.path.name for file in files]
    if len(set(names)) < len(names):
        raise ListError(
            f"Two lists have the same name ({', '.join(names)}), which identifies their rows; rename one."
        )
    names_files = _names_files(files)
    if names_files and layout == "cut":
        raise ListError(
            "These lists name files, and their times are times of those files: leave out --layout cut."
        )
    named = NamedFiles(videos.resolve(), archives)
    clips = partial(_read_all, files, videos.resolve(), named)
    return {
        "lists": {file.path.name: file.digest() for file in files},
        "notes": [_without_start(file) for file in files if not TIMED & set(file.spec.columns)],
        "clips": clips,
        "videos": videos,
        "tree": partial(_tree, videos, layout, clips, names_files, archives),
        "archives": archives,
        "layout": layout,
        "names_files": names_files,
        "named": named,
    }


def _without_start(file: _ListFile) -> str:
    stop = (
        "part of its file up to end_s"
        if "end_s" in file.spec.columns
        else f"{DEFAULT_CLIP_S:g} s of its file"
    )
    return f"{file.path.name} has no starts: each of its clips is the first {stop}."


def _names_files(files: Sequence[_ListFile]) -> bool:
    """Whether the lists name the files of their clips. Raises ListError where only some do."""
    naming = [file.path.name for file in files if "file" in file.spec.columns]
    if naming and len(naming) < len(files):
        raise ListError(f"Only {', '.join(naming)} names files. Prepare it apart from the other lists.")
    return bool(naming)


def _tree(
    videos: AnyPath,
    layout: VideoLayout,
    clips: Callable[[Mapping[str, str]], Iterable[ListedClip]],
    lists_name_files: bool,
    archives: ArchiveSet,
) -> VideoTree:
    if lists_name_files:
        return listed_files(videos, (clip.source for clip in clips({})), archives)
    return with_layout(scan(videos, archives), layout, clips({}), archives)


def _read_all(
    files: Sequence[_ListFile], videos: AnyPath, named: NamedFiles, planned: Mapping[str, str]
) -> Iterator[ListedClip]:
    ids = FileIds({named.source(source): clip_id for source, clip_id in planned.items()})
    for file in files:
        yield from read_list(file.path, file.spec, videos, ids, named)


def _default_lists(manifest: Manifest, raw: AnyPath) -> list[_ListFile]:
    specs = [spec for spec in manifest.lists if spec.read_by_default]
    files = [_ListFile(raw / spec.file, spec) for spec in specs if (raw / spec.file).is_file()]
    if not files:
        sources = "\n".join(f"  {spec.file}{_source_note(spec)}" for spec in specs)
        raise ListError(
            f"No list of {manifest.title} in {raw}. Put one or more there, or name one with --list:\n{sources}"
        )
    return files


def _source_note(spec: ListSpec) -> str:
    return f" from {spec.comes_from}" if spec.comes_from else ""


def _given_lists(manifest: Manifest, paths: Sequence[AnyPath]) -> list[_ListFile]:
    return [_ListFile(path, manifest.spec_for(path.name, _num_columns(path))) for path in paths]


def _num_columns(path: AnyPath) -> int:
    """Number of cells in the first row that is no comment."""
    num_columns = len(titles_of(path))
    if not num_columns:
        raise ListError(f"{path} lists no clip.")
    return num_columns


def _labels(manifest: Manifest, folders: Sequence[AnyPath]) -> list[tuple[str, str]]:
    """(label, display name) in class order from the first label list found; empty without one."""
    if manifest.labels is None:
        return []
    paths = [folder / manifest.labels.file for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    return [] if found is None else read_label_list(found)


def read_label_list(path: AnyPath) -> list[tuple[str, str]]:
    """(label, display name) of each row, in the order of its column index."""
    rows = [cells for _, cells in rows_by_title(path, LABEL_TITLES)]
    try:
        labels = {int(index): (mid, name) for index, mid, name in rows}
    except ValueError as error:
        raise ListError(f"{path} is no label list: {error}; its column index numbers the classes.") from error
    if not rows:
        raise ListError(f"{path} is no label list: it names no class.")
    if sorted(labels) != list(range(len(rows))) or len({mid for mid, _ in labels.values()}) < len(rows):
        raise ListError(
            f"{path} is no label list: its {len(rows):,} rows should have the indices 0 to {len(rows) - 1}, each "
            "once, and every mid once."
        )
    return [labels[index] for index in range(len(rows))]
