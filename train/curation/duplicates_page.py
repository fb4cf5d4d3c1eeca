"""A page of clips that are the same recording: their frames above each other, on one clock."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from cavsync.pipeline.dataset.index_row import IndexRow, index_rows
from cavsync.pipeline.dataset.reader import Dataset, read_clip
from cavsync.pipeline.duplicates.pairs import DuplicatePair, Matched, match_counts
from cavsync.train.reporting.images import png
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import CaptionedImage, Section, Table, write_page

DUPLICATES_PAGE = "duplicates.html"
FRAME_PX, GAP_PX = 64, 4
MAX_WIDTH_PX = 1800
BACKGROUND = "#888888"
TITLES: Mapping[Matched, tuple[str, str]] = {
    "both": ("Audio and frames match", "The same recording."),
    "audio": ("Only the audio matches", "The same music under other frames, for example."),
    "frames": ("Only the frames match", "Dubbed copies, for example, and copies without audio."),
}


@dataclass(frozen=True)
class PairSource:
    """The datasets that the clips of pairs are read from; of pairs within a dataset they are the same."""

    dataset: Dataset
    other: Dataset


def write_duplicates_page(
    pairs: Sequence[DuplicatePair],
    source: PairSource,
    lead: str,
    out: Path,
    num_shown: int,
    inputs: ResultInputs | None = None,
) -> Path:
    """`duplicates.html` in `out` with up to `num_shown` pairs of each kind; returns the page."""
    chosen = {kind: _spread([p for p in pairs if p.matched == kind], num_shown) for kind in TITLES}
    every = [pair for of_kind in chosen.values() for pair in of_kind]
    rows = _rows(source.dataset, {pair.key for pair in every})
    others = _rows(source.other, {pair.other for pair in every})
    sections = [Section("Pairs", "How many there are of each kind.", tables=[_counts(pairs)])]
    for kind, of_kind in chosen.items():
        total = sum(pair.matched == kind for pair in pairs)
        if total:
            title, meaning = TITLES[kind]
            shown = "" if len(of_kind) == total else f" {len(of_kind):,} of {total:,} are shown."
            images = [_image(pair, source, rows[pair.key], others[pair.other]) for pair in of_kind]
            sections.append(Section(f"{title}: {total:,}", f"{meaning}{shown}", images=images))
    page = out / DUPLICATES_PAGE
    write_page(
        "dataset_page.html.j2", page, "Clips that are the same recording", lead, inputs, sections=sections
    )
    return page


def _spread(pairs: Sequence[DuplicatePair], num: int) -> list[DuplicatePair]:
    """Up to `num` of them, at equal distances: neighbours are often of one group."""
    step = max(1.0, len(pairs) / max(1, num))
    return [pairs[int(number * step)] for number in range(min(num, len(pairs)))]


def _counts(pairs: Sequence[DuplicatePair]) -> Table:
    rows = [
        (TITLES[matched][0], f"{one.num_pairs:,}", f"{one.num_mirrored:,}", f"{one.num_across_splits:,}")
        for matched, one in match_counts(pairs).items()
    ]
    return Table(("", "pairs", "mirrored", "in different splits"), rows)


def _rows(dataset: Dataset, keys: Iterable[str]) -> dict[str, IndexRow]:
    table = dataset.index_table("all")
    wanted = pc.is_in(table["key"], value_set=pa.array(sorted(keys), pa.string()))
    return {row.key: row for row in index_rows(table.filter(wanted))}


def _image(pair: DuplicatePair, source: PairSource, row: IndexRow, other: IndexRow) -> CaptionedImage:
    strips = [(_strip(source.dataset, row), 0.0), (_strip(source.other, other), pair.offset_s)]
    times_s = [time_s + start_s for strip, start_s in strips for time_s, _ in strip]
    first_s, last_s = min(times_s), max(times_s)
    num_frames = max(len(strip) for strip, _ in strips)
    spacing_s = (strips[0][0][-1][0] - strips[0][0][0][0]) / max(1, num_frames - 1) or 1.0
    scale = min((FRAME_PX + GAP_PX) / spacing_s, (MAX_WIDTH_PX - FRAME_PX) / max(last_s - first_s, 0.1))
    size = (FRAME_PX + round((last_s - first_s) * scale), 2 * FRAME_PX + GAP_PX)
    canvas = Image.new("RGB", size, BACKGROUND)
    for line, (strip, start_s) in enumerate(strips):
        for time_s, frame in strip:
            shown = ImageOps.mirror(frame) if line and pair.mirrored else frame
            canvas.paste(shown, (round((time_s + start_s - first_s) * scale), line * (FRAME_PX + GAP_PX)))
    return CaptionedImage(png(canvas), _caption(pair))


def _strip(dataset: Dataset, row: IndexRow) -> list[tuple[float, Image.Image]]:
    """Time after the clip's start, in seconds, and image of each frame."""
    assert row.clip is not None, f"{row.key} ended as {row.state}"
    frames = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in read_clip(dataset.paths, row).frames]
    small = [ImageOps.fit(frame, (FRAME_PX, FRAME_PX)) for frame in frames]
    return list(zip(row.clip.frame_pts_s, small, strict=True))


def _caption(pair: DuplicatePair) -> str:
    parts = [
        f"{pair.key} ({pair.split}) above, {pair.other} ({pair.other_split}) below",
        f"which begins {abs(pair.offset_s):.2f} s {'later' if pair.offset_s >= 0 else 'earlier'}",
        f"{pair.overlap_s:.1f} s in both",
    ]
    if pair.audio_similarity is not None:
        parts.append(f"audio agrees at {100 * pair.audio_similarity:.0f} % of the onsets")
    if pair.frame_similarity is not None:
        parts.append(f"frames have a cosine of {pair.frame_similarity:.2f}")
    if pair.mirrored:
        parts.append("mirrored; shown as it would be unmirrored")
    return "; ".join(parts) + "."
