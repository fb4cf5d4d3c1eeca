"""Lists the clips of a folder of videos: the first seconds of each file, or all of it in consecutive clips."""

import hashlib
from collections.abc import Iterator, Mapping

from cavsync.pipeline.dataset.choices import FolderClips, FolderLabels
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.lists.clip_list import DEFAULT_CLIP_S, MAX_START_S, NO_TEXT, ListedClip
from cavsync.pipeline.lists.names import FileIds
from cavsync.pipeline.lists.tables import ListError
from cavsync.pipeline.lists.videos import VideoTree


def folder_clips(
    tree: VideoTree,
    test_fraction: float,
    clips: FolderClips,
    min_duration_s: float,
    labels_from: FolderLabels,
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
            starts_s = _starts(decoder.duration_s(source), min_duration_s) if clips == "all" else [0.0]
            label = folder_label(path) if labels_from == "folders" else None
            labels = () if label is None else (label,)
            for start_s in starts_s:
                yield ListedClip(clip_id, split, start_s, start_s + DEFAULT_CLIP_S, labels, path, source)


def folder_label(path: str) -> str | None:
    """The first folder of a path below the folder of the videos; None for a file that lies in none.

    `dog/a.mp4` and `dog/2019/b.mp4` are both of class dog. Raises ListError for a folder whose name is no label.
    """
    folder, slash, _ = path.partition("/")
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
