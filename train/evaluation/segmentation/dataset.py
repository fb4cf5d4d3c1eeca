"""ADE20K_Sound in its published folder: images, the audio that prompts for one class in them, exact masks.

ADE20KSoundPrompted/prompted_segmentation.csv     image_location, ade_class, ade_class_id, vggsound_file
ADE20KSoundPrompted/frames/<image_location>
ADE20KSoundPrompted/annotations/<image_location with _seg.png for .jpg>
ADE20KSoundPrompted/audio/<name of vggsound_file>
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from cavsync.pipeline.lists.text import encoding_of
from cavsync.train.data.images import fit
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.heatmaps.image_files import RowError, open_rgb
from cavsync.train.reporting.coverage import Unusable

LIST_NAME, PUBLISHED_FOLDER = "prompted_segmentation.csv", "ADE20KSoundPrompted"
COLUMNS = ("image_location", "ade_class", "ade_class_id", "vggsound_file")


@dataclass(frozen=True, order=True)
class PromptedRow:
    """One question: where in this image is the source of this audio?"""

    image: str
    class_name: str
    class_id: int
    audio: str

    @property
    def title(self) -> str:
        return f"{self.image} · {self.class_name} · {self.audio}"


@dataclass(frozen=True)
class PromptedSet:
    root: Path
    rows: tuple[PromptedRow, ...]  # sorted by image
    num_without_audio: int  # rows of the list without an audio prompt, or without a class

    @classmethod
    def open(cls, folder: Path) -> "PromptedSet":
        """From the published folder or the one around it; raises EvaluationError."""
        root = folder if (folder / LIST_NAME).is_file() else folder / PUBLISHED_FOLDER
        if not (root / LIST_NAME).is_file():
            raise EvaluationError(
                f"{folder} holds no {LIST_NAME}, nor does a folder {PUBLISHED_FOLDER} in it: give --data DIR. "
                "The DenseAV repository on GitHub says where ADE20KSoundPrompted.zip is."
            )
        table = _read_list(root / LIST_NAME)
        kept = table[(table["vggsound_file"] != "") & (table["ade_class_id"] != 0)]
        if kept.empty:
            raise EvaluationError(
                f"{root / LIST_NAME} has {len(table)} rows, and none has a vggsound_file and a class: "
                "is it the list of the speech prompts?"
            )
        columns = zip(*(kept[name].tolist() for name in COLUMNS), strict=True)
        rows = sorted(PromptedRow(image, name, number, audio) for image, name, number, audio in columns)
        return cls(root, tuple(rows), len(table) - len(kept))

    def frame(self, row: PromptedRow) -> Path:
        return self.root / "frames" / row.image

    def annotation(self, row: PromptedRow) -> Path:
        return self.root / "annotations" / row.image.replace(".jpg", "_seg.png")

    def audio(self, row: PromptedRow) -> Path:
        return self.root / "audio" / PurePosixPath(row.audio).name

    def missing(self) -> tuple[Unusable, ...]:
        """The rows one of whose files is not there."""
        found = []
        for row in self.rows:
            paths = (self.frame(row), self.annotation(row), self.audio(row))
            absent = [str(path) for path in paths if not path.is_file()]
            if absent:
                found.append(Unusable(row.title, "missing", f"{' and '.join(absent)} not there"))
        return tuple(found)

    def view(self, row: PromptedRow, side: int) -> tuple[Tensor, np.ndarray]:
        """The row's image, uint8 (side, side, 3), and the class of each of its pixels, int32 (side, side).

        Short side resized, centre cropped; classes by nearest neighbour. Raises RowError.
        """
        image, mask = open_rgb(self.frame(row)), open_rgb(self.annotation(row))
        if image.shape != mask.shape:
            raise RowError(
                "mask_mismatch",
                f"{self.annotation(row)} is {_size(mask)}, its image {self.frame(row)} is {_size(image)}",
            )
        return fit(image, side), class_ids(mask, side)


def class_ids(mask: Tensor, side: int) -> np.ndarray:
    """(side, side) class ids of ADE20K's (height, width, 3) mask: floor(red / 10) * 256 + green.

    Resized before it is decoded, and without blending: a mean of two colours is a third class.
    """
    colours = mask.permute(2, 0, 1)
    if colours.shape[1:] != (side, side):
        nearest = functional.resize(colours, [side], interpolation=InterpolationMode.NEAREST_EXACT)
        colours = functional.center_crop(nearest, [side, side])
    red, green = colours[0].numpy().astype(np.int32), colours[1].numpy()
    ids: np.ndarray = red // 10 * 256 + green
    return ids


def _read_list(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding_of(path))
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise EvaluationError(f"{path} is no CSV with a header in UTF-8: {error}") from error
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise EvaluationError(
            f"{path} has no column {', '.join(absent)}; it has {', '.join(table.columns)}. "
            f"The published list has {', '.join(COLUMNS)}."
        )
    ids = pd.to_numeric(table["ade_class_id"], errors="coerce")
    if ids.isna().any():
        wrong = table["ade_class_id"][ids.isna()].iloc[0]
        raise EvaluationError(f"{path} has ade_class_id {wrong!r}, which is no number.")
    return table.assign(ade_class_id=ids.astype(int))


def _size(image: Tensor) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
