"""Lists of originals and perturbed files: AV-SyncBench's JSON Lines, or a CSV.

JSON Lines   {"original_video": PATH, "original_audio": PATH, "edited_audio": PATH, "edit_type": "time_shifted",
              "offset_ms": 50, "direction": "delay"}; without original_audio the video's own audio is the original
CSV          original,perturbed,negative,amount: two media files, of which the second needs audio only
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.pipeline.lists.text import read_text
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.perturbed.perturbation import OFFSET

CSV_COLUMNS = ("original", "perturbed", "negative", "amount")
# Names of AV-SyncBench's lists, the canonical one first.
VIDEO_NAMES = ("original_video", "video", "video_path", "positive_video")
AUDIO_NAMES = ("original_audio", "positive_audio")
PERTURBED_NAMES = ("edited_audio", "negative_audio", "perturbed_audio", "audio_path")
VIDEO_NEGATIVES = ("edited_video", "negative_video", "perturbed_video")
NEGATIVE_NAMES = ("edit_type", "task_type", "task")
# What its lists call audio that was moved as a whole.
OFFSET_NAMES = ("time_shifted", "global_offset", "temporal_alignment", OFFSET)


@dataclass(frozen=True)
class ListedPair:
    """A video with its own audio, and audio made from it. `perturbed` is None where the list perturbs the frames instead."""

    title: str
    video: Path
    audio: Path | None  # None: the video's
    perturbed: Path | None
    negative: str
    amount: str
    direction: str


def read_pairs(path: Path) -> list[ListedPair]:
    """Paths are relative to the list's folder; raises EvaluationError naming the line that is wrong."""
    if not path.is_file():
        raise EvaluationError(f"{path} is {'a folder, not a list' if path.is_dir() else 'not there'}.")
    lines = read_text(path).splitlines()
    pairs = list(_from_csv(path, lines) if path.suffix.lower() == ".csv" else _from_json_lines(path, lines))
    if not pairs:
        raise EvaluationError(f"{path} lists no pair.")
    titles = [pair.title for pair in pairs]
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise EvaluationError(f"{path} lists {twice} twice; give each pair once.")
    return pairs


def _from_csv(path: Path, lines: list[str]) -> Iterator[ListedPair]:
    reader = csv.DictReader(lines)
    absent = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise EvaluationError(
            f"{path} has no column {', '.join(absent)}. A CSV of pairs begins with the line {','.join(CSV_COLUMNS)}; "
            "a list in JSON Lines has another suffix than .csv."
        )
    for row in reader:
        original, perturbed, negative, amount = ((row[name] or "").strip() for name in CSV_COLUMNS)
        if not (original and perturbed and negative):
            raise EvaluationError(
                f"{path}, line {reader.line_num}: original, perturbed and negative are wanted, it has {row}."
            )
        title = f"{original} · {perturbed}"
        yield ListedPair(title, path.parent / original, None, path.parent / perturbed, negative, amount, "")


def _from_json_lines(path: Path, lines: list[str]) -> Iterator[ListedPair]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("it is no object")  # noqa: TRY004 - wrong content, caught below
            yield _pair(row, path.parent)
        except ValueError as error:
            raise EvaluationError(
                f"{path}, line {number}: {error}. A JSON object with original_video, edited_audio and edit_type is wanted, as in "
                f"AV-SyncBench's lists, or a CSV with the columns {', '.join(CSV_COLUMNS)}."
            ) from error


def _pair(row: Mapping[str, Any], folder: Path) -> ListedPair:
    video, audio, perturbed = (_first(row, names) for names in (VIDEO_NAMES, AUDIO_NAMES, PERTURBED_NAMES))
    if video is None:
        raise ValueError("it has no original_video")
    if perturbed is None and _first(row, VIDEO_NEGATIVES) is None:
        raise ValueError("it has no edited_audio")
    negative = _first(row, NEGATIVE_NAMES) or "unnamed"
    amount, offset_ms = _first(row, ("target_attribute",)) or "", _first(row, ("offset_ms",))
    if negative in OFFSET_NAMES and offset_ms is not None:
        negative, amount = OFFSET, f"{abs(float(offset_ms)):g} ms"
    return ListedPair(
        title=_first(row, ("sample_id",)) or f"{video} · {perturbed or _first(row, VIDEO_NEGATIVES)}",
        video=folder / video,
        audio=None if audio is None else folder / audio,
        perturbed=None if perturbed is None else folder / perturbed,
        negative=negative,
        amount=amount,
        direction=_first(row, ("direction",)) or "",
    )


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name)), None)
