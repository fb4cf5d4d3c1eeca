"""What a command is asked to prepare: the official lists of a dataset on the conventional layout, or a folder."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cavsync.pipeline.folder import folder_clips
from cavsync.pipeline.lists import ListedClip, ListError, numbered_rows, read_list, sha256_of
from cavsync.pipeline.manifest import ListSpec, Manifest
from cavsync.pipeline.prepare import Listing
from cavsync.pipeline.sources import Layout, SourceError, scan


@dataclass(frozen=True)
class _ListFile:
    path: Path
    spec: ListSpec


def folder_listing(videos: Path, test_share: float = 0.0) -> Listing:
    """One clip a video: its first 10 s. `test_share` of them, chosen by a hash of the id, make the split "test".

    Raises SourceError for a folder that is missing or holds no video.
    """
    tree = scan(videos)
    names = "\n".join(tree.names())
    digest = hashlib.sha256(f"{test_share}\n{names}".encode()).hexdigest()
    return Listing(
        name=videos.resolve().name,
        splits={"train": "train", "test": "test"},
        lists={"folder": digest},
        clips=partial(folder_clips, tree, test_share),
        videos=videos,
        tree=lambda: tree,
    )


def official_listing(
    manifest: Manifest, root: Path, videos: Path | None, lists: Sequence[Path], layout: Layout
) -> Listing:
    """The dataset's lists in `root`/raw/<name>/ with videos in its folder videos/, unless named otherwise.

    Raises ListError or SourceError, which say what is missing, where it was looked for and where it comes from.
    """
    raw = root / "raw" / manifest.name
    files = _given_lists(manifest, lists) if lists else _default_lists(manifest, raw)
    folder = videos or raw / "videos"
    if not folder.is_dir():
        raise SourceError(
            f"No videos of {manifest.title}: {folder} is no folder. Put them there or name their folder with "
            f"--videos. Nobody distributes them; {manifest.homepage} tells which YouTube videos they are."
        )
    labels = _labels(manifest, [raw, *(file.path.parent for file in files)])
    return Listing(
        name=manifest.name,
        splits=manifest.splits,
        lists={file.path.name: sha256_of(file.path) for file in files},
        published_rows={file.path.name: file.spec.count for file in files if file.spec.count},
        clips=partial(_read_all, files),
        videos=folder,
        tree=partial(scan, folder),
        layout=layout,
        labels=[label for label, _ in labels],
        label_names=[name for _, name in labels],
    )


def _read_all(files: Sequence[_ListFile]) -> Iterator[ListedClip]:
    for file in files:
        yield from read_list(file.path, file.spec)


def _default_lists(manifest: Manifest, raw: Path) -> list[_ListFile]:
    specs = [spec for spec in manifest.lists if spec.read_by_default]
    files = [_ListFile(raw / spec.file, spec) for spec in specs if (raw / spec.file).is_file()]
    if not files:
        sources = "\n".join(f"  {spec.file} from {spec.comes_from}" for spec in specs)
        raise ListError(
            f"No list of {manifest.title} in {raw}. Put one or more there, or name one with --list:\n{sources}"
        )
    return files


def _given_lists(manifest: Manifest, paths: Sequence[Path]) -> list[_ListFile]:
    return [_ListFile(path, manifest.spec_for(path.name, _num_columns(path))) for path in paths]


def _num_columns(path: Path) -> int:
    if not path.is_file():
        raise ListError(f"{path} is no file; --list names a dataset's list, a CSV.")
    for _, row in numbered_rows(path):
        return len(row)
    raise ListError(f"{path} lists no clip.")


def _labels(manifest: Manifest, folders: Sequence[Path]) -> list[tuple[str, str]]:
    """(label, display name) in class order from the first label list found; none without one."""
    if manifest.labels is None:
        return []
    paths = [folder / manifest.labels.file for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    return [] if found is None else _read_labels(found)


def _read_labels(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    try:
        return [(row["mid"], row["display_name"]) for row in sorted(rows, key=lambda row: int(row["index"]))]
    except (KeyError, ValueError, TypeError) as error:
        raise ListError(
            f"{path} is no label list: {error}. Its header should be index,mid,display_name."
        ) from error
