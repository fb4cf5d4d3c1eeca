"""VGG-SS and Flickr-SoundNet: images, their audio, and boxes around the sources of the audio.

vggss.json                  [{"file": ID, "class": NAME, "bbox": [[x1, y1, x2, y2], ...]}, ...] in 0-1, or
Annotations/<ID>.xml        boxes of several annotators, in pixels of a 256 x 256 image
frames/<ID>.jpg and audio/<ID>.wav, or videos/<ID>.mp4, whose middle frame is taken
"""

import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cavsync.pipeline.lists.text import encoding_of, read_text
from cavsync.train.errors import EvaluationError

Benchmark = Literal["vggss", "flickr"]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 as fractions of the image

# All published figures are of maps and boxes at this size.
SIDE = 224
FLICKR_SIDE = 256
SUFFIXES = (".mp4", ".jpg", ".wav", ".xml")


# The wanted shape of an annotation, for messages.
SHAPES: dict[Benchmark, str] = {
    "vggss": '{"file": "ID", "class": "NAME", "bbox": [[x1, y1, x2, y2]]} is wanted, its corners between 0 and 1.',
    "flickr": (
        "<bbox><xmin>X1</xmin><ymin>Y1</ymin><xmax>X2</xmax><ymax>Y2</ymax></bbox> is wanted, in pixels of a 256 x 256 image; "
        "other tags, such as <bndbox>, are not read."
    ),
}


@dataclass(frozen=True, order=True)
class BoxRow:
    """An image, audio, and boxes around the source of the audio; without a box the source is not in the image."""

    image: str
    audio: str
    label: str
    boxes: tuple[Box, ...]

    @property
    def title(self) -> str:
        return self.image if self.image == self.audio else f"{self.image} with the audio of {self.audio}"


@dataclass(frozen=True)
class BoxSet:
    root: Path
    benchmark: Benchmark
    rows: tuple[BoxRow, ...]  # sorted by image
    source: Path  # the annotations
    num_unlisted: int = 0  # ids of a subset that have no annotation

    @classmethod
    def open(cls, folder: Path, subset: Path | None = None, negatives: Path | None = None) -> "BoxSet":
        """`subset` is a CSV whose first column names clips; `negatives` one of image, audio, "non-sounding".

        Raises EvaluationError where there is nothing to read.
        """
        benchmark, source, rows = _annotations(folder)
        if rows and not any(row.boxes for row in rows):
            raise EvaluationError(
                f"{source}: none of its {len(rows):,} annotations has a box. {SHAPES[benchmark]}"
            )
        num_unlisted = 0
        if subset is not None:
            wanted = {_stem(line[0]) for line in _csv(subset)}
            rows = [row for row in rows if row.image in wanted]
            num_unlisted = len(wanted - {row.image for row in rows})
        if negatives is not None:
            rows += _non_sounding(negatives)
        if not rows:
            chosen = f" for a clip of {subset}" if subset else ""
            raise EvaluationError(
                f"{source} holds no annotation{chosen}: do list and benchmark belong together?"
            )
        return cls(folder, benchmark, tuple(sorted(rows)), source, num_unlisted)

    def truth(self, row: BoxRow) -> np.ndarray:
        """(224, 224) float32: 1 inside a box; where annotators differ, half for each, at most 1."""
        layers = [_raster(box) for box in row.boxes]
        total = np.sum(layers, axis=0) if layers else np.zeros((SIDE, SIDE))
        agreed: np.ndarray = np.minimum(total / (2 if self.benchmark == "flickr" else 1), 1)
        return agreed.astype(np.float32)

    def is_foreign(self, row: BoxRow, other: BoxRow) -> bool:
        """Whether nothing in the row's image makes the other row's audio, by what is annotated: another video and another label."""
        beside = self._rows_of_image[row.image]
        return (
            bool(other.boxes)
            and _video(other.audio) not in {_video(one.audio) for one in beside}
            and (not other.label or other.label not in {one.label for one in beside})
        )

    @cached_property
    def _rows_of_image(self) -> dict[str, list[BoxRow]]:
        of_image: dict[str, list[BoxRow]] = {}
        for row in self.rows:
            of_image.setdefault(row.image, []).append(row)
        return of_image

    def annotation_issues(self) -> dict[str, int]:
        """Errors of the annotations that were handled: counts for the report."""
        areas = [[_raster(box).any() for box in row.boxes] for row in self.rows if row.boxes]
        coordinates = [value for row in self.rows for box in row.boxes for value in box]
        return {
            "coordinates outside the image, clipped": sum(not 0 <= value <= 1 for value in coordinates),
            "boxes without area": sum(not area for row in areas for area in row),
            "images whose boxes have no area, missed by any map": sum(not any(row) for row in areas),
        }


def _annotations(folder: Path) -> tuple[Benchmark, Path, list[BoxRow]]:
    if (folder / "vggss.json").is_file():
        return "vggss", folder / "vggss.json", _read_json(folder / "vggss.json")
    if (folder / "Annotations").is_dir():
        files = sorted((folder / "Annotations").glob("*.xml"))
        return "flickr", folder / "Annotations", [_read_xml(file) for file in files]
    raise EvaluationError(
        f"{folder} holds neither vggss.json (VGG-SS) nor a folder Annotations (Flickr-SoundNet): give --data DIR. "
        "The first is in the repository hche11/Localizing-Visual-Sounds-the-Hard-Way on GitHub, under metadata/; "
        "the second comes with ardasnck/learning_to_localize_sound_source."
    )


def _read_json(path: Path) -> list[BoxRow]:
    """Rows may also hold "image" and "audio", for images with several audio sources; both default to "file"."""
    try:
        return [_row(item) for item in json.loads(read_text(path))]
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path} is no list of {{file, class, bbox: [[x1, y1, x2, y2], ...]}}: {error!r}"
        ) from error


def _row(item: dict[str, Any]) -> BoxRow:
    boxes = tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in item["bbox"])
    image = item.get("image", item["file"])
    return BoxRow(image, item.get("audio", item["file"]), item["class"], boxes)


def _read_xml(path: Path) -> BoxRow:
    try:
        root = ET.parse(path).getroot()
        if next(root.iter("bndbox"), None) is not None:
            raise EvaluationError(f"{path} has boxes in <bndbox>. {SHAPES['flickr']}")
        found = list(root.iter("bbox"))
        corners = [[float(child.text or "") for child in list(box)[-4:]] for box in found]
        boxes = tuple(
            (x1 / FLICKR_SIDE, y1 / FLICKR_SIDE, x2 / FLICKR_SIDE, y2 / FLICKR_SIDE)
            for x1, y1, x2, y2 in corners
        )
    except (ET.ParseError, ValueError) as error:
        raise EvaluationError(
            f"{path} is no annotation with <bbox> of four numbers: {error}. {SHAPES['flickr']}"
        ) from error
    return BoxRow(path.stem, path.stem, "", boxes)


def _non_sounding(path: Path) -> list[BoxRow]:
    """Rows that name an image and the audio of another clip; "sounding" rows and a header are skipped."""
    rows = [
        BoxRow(_stem(line[0]), _stem(line[1]), "", ()) for line in _csv(path) if line[2:3] == ["non-sounding"]
    ]
    if not rows:
        raise EvaluationError(f'{path} has no row "IMAGE,AUDIO,non-sounding".')
    return rows


def _csv(path: Path) -> Iterable[list[str]]:
    if not path.is_file():
        raise EvaluationError(f"{path} is not there.")
    try:
        with path.open(newline="", encoding=encoding_of(path)) as file:
            return [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (UnicodeError, csv.Error) as error:
        raise EvaluationError(f"{path} is no CSV in UTF-8: {error}.") from error


def _video(name: str) -> str:
    """Names of VGGSound's clips end with the second that they start at."""
    return re.sub(r"_\d{6}$", "", name)


def _stem(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _raster(box: Box) -> np.ndarray:
    """(224, 224) bool. Coordinates outside the image are moved to its edge, then rounded down, as published."""
    x1, y1, x2, y2 = (np.clip(box, 0, 1) * SIDE).astype(int)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y1:y2, x1:x2] = True
    return inside
