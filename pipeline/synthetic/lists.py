"""Writes the lists of a world in the published formats of AudioSet and VGGSound."""

import csv
import io
from collections.abc import Sequence

from cavsync.pipeline.synthetic.classes import CLASSES
from cavsync.pipeline.synthetic.clip import WorldClip
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.paths import WorldPaths

_MIDS = {sounding.name: sounding.mid for sounding in CLASSES}


def write_lists(paths: WorldPaths, config: WorldConfig, clips: Sequence[WorldClip]) -> None:
    """Write VGGSound's list with the longest class of each clip, and AudioSet's with all its classes.

    Solo clips belong neither to train nor to test; solo.csv lists them in VGGSound's format.
    """
    by_split = {split: [clip for clip in clips if clip.split == split] for split in ("train", "test", "solo")}
    contents = {
        paths.vggsound / "vggsound.csv": _vggsound(by_split["train"] + by_split["test"]),
        paths.audioset / "balanced_train_segments.csv": _audioset(by_split["train"], config),
        paths.audioset / "eval_segments.csv": _audioset(by_split["test"], config),
        paths.audioset / "class_labels_indices.csv": _class_labels(),
    }
    if by_split["solo"]:
        contents[paths.vggsound / "solo.csv"] = _vggsound(by_split["solo"])
    for path, content in contents.items():
        with paths.written(path) as partial:
            partial.write_text(content)


def _vggsound(clips: Sequence[WorldClip]) -> str:
    """No header; id, start second, label, split."""
    return _csv([[clip.clip_id, clip.start_s, clip.main_class, clip.split] for clip in clips])


def _audioset(clips: Sequence[WorldClip], config: WorldConfig) -> str:
    """Three comment lines, then fields set apart by a comma and a space, the labels in one quoted field."""
    labels = [[_MIDS[name] for name in clip.class_names] for clip in clips]
    num_unique, num_positive = len({mid for mids in labels for mid in mids}), sum(map(len, labels))
    counts = f"num_unique_labels={num_unique}, num_positive_labels={num_positive}"
    head = [
        "# Segments csv created by cavsync for a synthetic world",
        f"# num_ytids={len(clips)}, num_segs={len(clips)}, {counts}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    rows = [
        f'{clip.clip_id}, {clip.start_s:.3f}, {clip.start_s + config.duration_s:.3f}, "{",".join(mids)}"'
        for clip, mids in zip(clips, labels, strict=True)
    ]
    return "\n".join([*head, *rows, ""])


def _class_labels() -> str:
    """AudioSet quotes the names, so that they may hold commas."""
    rows = [f'{index},{sounding.mid},"{sounding.name}"' for index, sounding in enumerate(CLASSES)]
    return "\n".join(["index,mid,display_name", *rows, ""])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
