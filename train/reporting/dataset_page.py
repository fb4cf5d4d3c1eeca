"""Self-contained pages about a dataset: its statistics, and sample clips with their audio."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from cavsync.pipeline.dataset.clip_notes import note_text, notes_of
from cavsync.pipeline.dataset.index_row import IndexRow, MediaFacts
from cavsync.pipeline.inspection.clips import PlayableFile, SampleClip
from cavsync.pipeline.inspection.statistics import PERCENTILES, Statistics, kept_text
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.reporting.contact_sheet import LEFT, RIGHT, clip_plot, end_s, sheet, title
from cavsync.train.reporting.dataset_plots import dataset_plots
from cavsync.train.reporting.images import png
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import AUDIO_TYPES, CaptionedImage, Section, Table, data_url, write_page

STATISTICS_PAGE, SHEET_PAGE = "stats.html", "contact-sheet.html"
MAX_KEYS = 50  # listed on a page
NUM_LABELS = 15  # top and rare ones


@dataclass(frozen=True)
class ClipCard:
    """A clip on a page."""

    title: str
    plot: bytes | None  # PNG
    audio: str | None  # data URL
    no_audio: str
    failure: str  # why there is no plot
    end_s: float  # the end of the plot's time axis, in seconds
    facts: Sequence[tuple[str, str]]


def write_statistics(statistics: Statistics, out: Path, inputs: ResultInputs | None = None) -> Path:
    """The plots as PNG files and one page with all of them; returns the page."""
    plots = dict(dataset_plots(statistics))
    for name, content in plots.items():
        write_atomically(out / name, content)
    lead = f"{statistics.num_listed:,} listed clips, {statistics.finished}, {statistics.ok_hours:,.2f} h prepared"
    sections = list(_sections(statistics, plots))
    title = f"Dataset {statistics.name}: statistics"
    return _write(out / STATISTICS_PAGE, title, lead, inputs, sections=sections)


def write_sheet(
    name: str, lead: str, clips: Sequence[SampleClip], out: Path, inputs: ResultInputs | None = None
) -> Path:
    """`contact-sheet.png` and `contact-sheet.html`; returns the page."""
    plots = [
        clip_plot(sample.row.clip, sample.stored) if sample.row.clip and sample.stored else None
        for sample in clips
    ]
    write_atomically(out / "contact-sheet.png", sheet(clips, plots))
    cards = [_card(*pair) for pair in zip(clips, plots, strict=True)]
    return _write(out / SHEET_PAGE, f"Dataset {name}: clips", lead, inputs, cards=cards)


def _write(path: Path, title: str, lead: str, inputs: ResultInputs | None, **content: Any) -> Path:
    content |= {"axis_left": LEFT, "axis_width": RIGHT - LEFT}
    write_page("dataset_page.html.j2", path, title, lead, inputs, **content)
    return path


def _sections(statistics: Statistics, plots: Mapping[str, bytes]) -> Iterator[Section]:
    def plot(name: str) -> list[CaptionedImage]:
        return [CaptionedImage(plots[name], "")] if name in plots else []

    yield Section("States", "Every listed clip ends in exactly one.", plot("states.png"))
    yield Section("Log-mel", _mel_text(statistics), plot("mel.png"), tables=[_mel_table(statistics)])
    if statistics.clips_per_label:
        tables = _label_tables(statistics.clips_per_label)
        yield Section("Labels", "Prepared clips of each label.", plot("labels.png"), tables=tables)
    if statistics.durations_s:
        tables = [_duration_table(statistics)]
        yield Section("Durations", "Of prepared clips.", plot("durations.png"), tables=tables)
    yield Section("Source files", "Of every file that could be opened.", plot("sources.png"))
    for note, keys in statistics.notes.items():
        text = note_text(note)
        yield _listed(text.title, text.meaning, keys)


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


def _card(sample: SampleClip, plot: Image.Image | None) -> ClipCard:
    row = sample.row
    return ClipCard(
        title=title(replace(row, reason=None)),
        plot=png(plot) if plot else None,
        audio=None if sample.audio is None else _address(sample.audio),
        no_audio=sample.no_audio,
        failure="" if plot else f"{row.state}: {row.reason}",
        end_s=end_s(row.clip) if row.clip else 0.0,
        facts=[(name, value) for name, value in _facts(row, sample) if value],
    )


def _address(audio: PlayableFile) -> str:
    return data_url(audio.content, AUDIO_TYPES[audio.suffix])


def _facts(row: IndexRow, sample: SampleClip) -> Iterator[tuple[str, str]]:
    yield "listed in", row.listed_in or ""
    yield "source", row.source or ""
    inside = f", from {row.source_start_s:g} s of the file" if row.source_start_s is not None else ""
    yield "listed clip", f"{row.start_s:g} to {row.end_s:g} s{inside}"
    if row.media is not None:
        yield from _media_facts(row.media)
    yield "shard", row.shard
    if row.clip is not None and row.members is not None and sample.stored is not None:
        notes = [note.replace("_", " ") for note in notes_of(row)]
        stored = f"{len(sample.stored.frames)} frames, {row.clip.num_mel_rows:,} mel rows"
        yield "stored", _joined(f"{row.clip.duration_s:.2f} s", stored, *notes)
        yield "kept audio", "" if row.kept is None else kept_text(row.kept)
        yield "gaps in the audio", _spans(row.clip.audio_gaps_s)
        yield "gaps in the frames", _spans(row.clip.frame_gaps_s)
        yield "crc32", f"{row.members.crc32:08x}"


def _spans(gaps_s: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{start_s:.2f} to {stop_s:.2f} s" for start_s, stop_s in gaps_s)


def _media_facts(media: MediaFacts) -> Iterator[tuple[str, str]]:
    size = f"{media.width} x {media.height}" if media.width else ""
    ratio = media.sample_aspect_ratio
    pixels = f"pixels {ratio:.4g} to 1" if ratio and ratio != 1 else ""
    yield "video", _joined(media.video_codec, size, pixels, media.fps and f"{media.fps:.5g} fps")
    rate, channels = media.sample_rate_hz, media.num_channels
    counted = channels and f"{channels} channel{'s' if channels > 1 else ''}"
    yield "audio", _joined(media.audio_codec, rate and f"{rate:,} Hz", counted)
    yield "decoder", media.decoder


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)
