"""Self-contained pages about a dataset: what it consists of, and clips to look at and listen to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image

from cavsync.pipeline.dataset.index_row import IndexRow, MediaFacts
from cavsync.pipeline.inspection.clips import SampleClip
from cavsync.pipeline.inspection.statistics import PERCENTILES, Statistics
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.reporting.contact_sheet import LEFT, RIGHT, clip_picture, end_s, sheet, title
from cavsync.train.reporting.dataset_plots import dataset_plots
from cavsync.train.reporting.page import Picture, Section, Table, data_url

MAX_KEYS = 50  # listed on a page
NUM_LABELS = 15  # top and rare ones


@dataclass(frozen=True)
class Card:
    """A clip on a page."""

    title: str
    picture: bytes | None
    wav: bytes | None
    no_audio: str
    failure: str  # why there is no picture
    end_s: float  # where the picture's time axis ends
    facts: Sequence[tuple[str, str]]


def write_statistics(statistics: Statistics, out: Path) -> Path:
    """The plots as PNG files and one page with all of them; returns the page."""
    plots = dict(dataset_plots(statistics))
    for name, content in plots.items():
        write_atomically(out / name, content)
    lead = f"{statistics.num_listed:,} listed clips, {statistics.finished}, {statistics.ok_hours:,.2f} h prepared"
    sections = list(_sections(statistics, plots))
    return _write(out / "stats.html", f"Dataset {statistics.name}: what is in it", lead, sections=sections)


def write_sheet(name: str, lead: str, exhibits: Sequence[SampleClip], out: Path) -> Path:
    """`contact-sheet.png` and `contact-sheet.html`; returns the page."""
    pictures = [
        clip_picture(exhibit.row.clip, exhibit.stored) if exhibit.row.clip and exhibit.stored else None
        for exhibit in exhibits
    ]
    write_atomically(out / "contact-sheet.png", sheet(exhibits, pictures))
    cards = [_card(*pair) for pair in zip(exhibits, pictures, strict=True)]
    return _write(out / "contact-sheet.html", f"Dataset {name}: clips", lead, cards=cards)


def _write(path: Path, heading: str, lead: str, **content: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("cavsync.train.reporting"), autoescape=True, trim_blocks=True
    )
    environment.filters["png"] = lambda picture: data_url(picture, "image/png")
    environment.filters["wav"] = lambda sound: data_url(sound, "audio/wav")
    template = environment.get_template("dataset_page.html.j2")
    axis = {"axis_left": LEFT, "axis_width": RIGHT - LEFT}
    write_atomically(path, template.render(heading=heading, lead=lead, **axis, **content).encode())
    return path


def _sections(statistics: Statistics, plots: Mapping[str, bytes]) -> Iterator[Section]:
    def picture(name: str) -> list[Picture]:
        return [Picture(plots[name], "")] if name in plots else []

    yield Section("States", "Every listed clip ends in exactly one.", picture("states.png"))
    yield Section("Log-mel", _mel_text(statistics), picture("mel.png"), tables=[_mel_table(statistics)])
    if statistics.clips_per_label:
        tables = _label_tables(statistics.clips_per_label)
        yield Section("Labels", "Prepared clips of each label.", picture("labels.png"), tables=tables)
    if statistics.durations_s:
        tables = [_duration_table(statistics)]
        yield Section("Durations", "Of prepared clips.", picture("durations.png"), tables=tables)
    yield Section("Source files", "Of every file that could be opened.", picture("sources.png"))
    yield _listed("Silent clips", "No sample is louder than -60 dB of full scale.", statistics.silent)
    yield _listed("Still clips", "All frames show the same picture.", statistics.still)


def _mel_text(statistics: Statistics) -> str:
    return (
        "A model that was trained with the published mean and deviation expects those; a new one is best given "
        f"this dataset's own. Bands are over {statistics.mel.num_sampled:,} clips of all splits; the table is over all clips to train on."
    )


def _mel_table(statistics: Statistics) -> Table:
    mel = statistics.mel
    own = ("—", "—") if mel.mean is None or mel.std is None else (f"{mel.mean:.4f}", f"{mel.std:.4f}")
    reference = (f"published, {mel.reference}", f"{mel.reference_mean:.4f}", f"{mel.reference_std:.4f}")
    return Table(("", "mean", "deviation"), [("this dataset", *own), reference])


def _label_tables(clips: Mapping[str, int]) -> list[Table]:
    def table(name: str, labels: Sequence[tuple[str, int]]) -> Table:
        return Table((name, "clips"), [(label, f"{count:,}") for label, count in labels])

    ordered = list(clips.items())
    if len(ordered) <= 2 * NUM_LABELS:
        return [table("label", ordered)]
    return [table("most clips", ordered[:NUM_LABELS]), table("fewest clips", ordered[: -NUM_LABELS - 1 : -1])]


def _duration_table(statistics: Statistics) -> Table:
    header = ["percentile", *map(str, PERCENTILES)]
    values = [f"{value:.2f} s" for value in statistics.duration_percentiles_s().values()]
    return Table(header, [("duration", *values)])


def _listed(name: str, meaning: str, keys: Sequence[str]) -> Section:
    more = f" and {len(keys) - MAX_KEYS:,} more" if len(keys) > MAX_KEYS else ""
    listed = f" {', '.join(keys[:MAX_KEYS])}{more}." if keys else ""
    return Section(f"{name}: {len(keys):,}", meaning + listed)


def _card(exhibit: SampleClip, picture: Image.Image | None) -> Card:
    row = exhibit.row
    return Card(
        title=title(replace(row, reason=None)),
        picture=_png(picture) if picture else None,
        wav=exhibit.wav,
        no_audio=exhibit.no_audio,
        failure="" if picture else f"{row.state}: {row.reason}",
        end_s=end_s(row.clip) if row.clip else 0.0,
        facts=[(name, value) for name, value in _facts(row, exhibit) if value],
    )


def _facts(row: IndexRow, exhibit: SampleClip) -> Iterator[tuple[str, str]]:
    yield "listed in", row.listed_in or ""
    yield "source", row.source or ""
    inside = f", from {row.source_start_s:g} s of the file" if row.source_start_s is not None else ""
    yield "listed clip", f"{row.start_s:g} to {row.end_s:g} s{inside}"
    if row.media is not None:
        yield from _media_facts(row.media)
    yield "shard", row.shard
    if row.clip is not None and row.members is not None and exhibit.stored is not None:
        notes = [name for name in ("silent", "still") if getattr(row.clip, name)]
        stored = f"{len(exhibit.stored.frames)} frames, {row.clip.num_mel_rows:,} mel rows"
        yield "stored", _joined(f"{row.clip.duration_s:.2f} s", stored, *notes)
        yield "crc32", f"{row.members.crc32:08x}"


def _media_facts(media: MediaFacts) -> Iterator[tuple[str, str]]:
    size = f"{media.width} x {media.height}" if media.width else ""
    yield "video", _joined(media.video_codec, size, media.fps and f"{media.fps:.5g} fps")
    rate, channels = media.sample_rate_hz, media.num_channels
    counted = channels and f"{channels} channel{'s' if channels > 1 else ''}"
    yield "audio", _joined(media.audio_codec, rate and f"{rate:,} Hz", counted)
    yield "decoder", media.decoder


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
