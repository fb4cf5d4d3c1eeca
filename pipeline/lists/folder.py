"""Lists the clips of a folder of videos: the first seconds of each file, or all of it in consecutive clips."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.archives.names import without_archives
from cavsync.pipeline.dataset.choices import FolderClips, FolderLabels
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.lists.clip_list import DEFAULT_CLIP_S, MAX_START_S, NO_TEXT, ListedClip
from cavsync.pipeline.lists.listing import Listing
from cavsync.pipeline.lists.names import FileIds
from cavsync.pipeline.lists.tables import ListError
from cavsync.pipeline.lists.videos import SourceError, VideoTree, scan
from cavsync.pipeline.storage.path import AnyPath

# Labels in one line.
MAX_SHOWN = 8


def folder_listing(
    videos: AnyPath,
    test_fraction: float = 0.0,
    clips: FolderClips = "first",
    min_duration_s: float = 1.0,
    labels_from: FolderLabels = "none",
    archive_index: AnyPath | None = None,
) -> Listing:
    """Videos without a list: the first 10 s of each, or all of it. The split "test" gets the fraction `test_fraction`
    of them, chosen by a hash of the id. What archives among them hold is kept in the folder `archive_index`.

    Raises SourceError for a folder that is missing or holds no video, or no sub-folder that could give labels.
    """
    archives = ArchiveSet(videos, archive_index)
    tree = scan(videos, archives)
    chosen = f"{test_fraction}" if clips == "first" else f"{test_fraction} {clips}"
    if labels_from != "none":
        chosen += f" labels from {labels_from}"
    names = "\n".join(tree.names())
    digest = hashlib.sha256(f"{chosen}\n{names}".encode()).hexdigest()
    return Listing(
        name=videos.resolve().name,
        made_from="folder",
        splits={"train": "train", "test": "test"},
        lists={"folder": digest},
        clips=partial(folder_clips, tree, test_fraction, clips, min_duration_s, labels_from, archives),
        notes=_folder_labels(tree) if labels_from == "folders" else (),
        videos=videos,
        tree=lambda: tree,
        archives=archives,
        names_files=True,
    )


def _folder_labels(tree: VideoTree) -> list[str]:
    """Lines on the labels that the sub-folders give. Raises SourceError where no video lies in one."""
    counts = Counter(map(folder_label, tree.names()))
    num_without = counts.pop(None, 0)
    if not counts:
        raise SourceError(
            f"--labels-from folders: all {num_without:,} videos lie in {tree.root} itself, none in a sub-folder that "
            "would name its class. Put them into folders, or leave the option out."
        )
    shown = [f"{label} ({count:,} files)" for label, count in counts.most_common(MAX_SHOWN)]
    shown += [f"and {len(counts) - MAX_SHOWN:,} more"] if len(counts) > MAX_SHOWN else []
    lines = [f"Labels from folders: {len(counts):,}, {', '.join(shown)}."]
    if num_without:
        lines.append(
            f"{num_without:,} files lie in {tree.root} itself; their clips have no label, and a classifier needs one of every clip."
        )
    return lines


def folder_clips(
    tree: VideoTree,
    test_fraction: float,
    clips: FolderClips,
    min_duration_s: float,
    labels_from: FolderLabels,
    archives: ArchiveSet,
    planned: Mapping[str, str],
) -> Iterator[ListedClip]:
    """The clips of every video of the tree, in order of path: its first 10 s, or all of it in pieces of 10 s.

    Files that end earlier give shorter clips. The last piece is listed if at least `min_duration_s` are left. With labels
    from folders, a clip has the name of the first folder on the way to its file, as `folder_label` says.
    `planned` has the ids of the files that are planned already.
    """
    ids = FileIds(planned)
    with DecoderProcess() as decoder:
        for path in tree.names():
            source = str(tree.root / path)
            clip_id = ids.of(source, path, is_plain=True)
            split = "test" if _fraction_of(clip_id) < test_fraction else "train"
            starts_s = [0.0]
            if clips == "all":
                starts_s = _starts(decoder.duration_s(archives.path_of(source)), min_duration_s)
            label = folder_label(path) if labels_from == "folders" else None
            labels = () if label is None else (label,)
            for start_s in starts_s:
                yield ListedClip(clip_id, split, start_s, start_s + DEFAULT_CLIP_S, labels, path, source)


def folder_label(path: str) -> str | None:
    """The first folder of a path below the folder of the videos; None for a file that lies in none.

    `dog/a.mp4`, `dog/2019/b.mp4` and `part.tar/dog/c.mp4` are all of class dog. Raises ListError for a folder whose name is no label.
    """
    folder, slash, _ = without_archives(path).partition("/")
    if not slash:
        return None
    label = folder.strip()
    if not label or NO_TEXT.search(label):
        raise ListError(f"The folder {folder!r} is no name of a class; rename it.")
    return label


def _starts(duration_s: float | None, min_duration_s: float) -> list[float]:
    """Starts of the pieces of a file; a file of unknown length is listed once."""
    length_s = min(duration_s or 0.0, MAX_START_S - DEFAULT_CLIP_S)
    num_pieces = max(1, int((length_s - min_duration_s) // DEFAULT_CLIP_S) + 1)
    return [piece * DEFAULT_CLIP_S for piece in range(num_pieces)]


def _fraction_of(clip_id: str) -> float:
    """A pseudo-random number in [0, 1) that depends on the id alone, so a clip keeps its split when the folder grows."""
    return int.from_bytes(hashlib.sha256(f"split:{clip_id}".encode()).digest()[:8]) / 2**64
