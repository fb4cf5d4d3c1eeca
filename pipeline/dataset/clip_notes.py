"""Notes on clips in state ok: what a user may want to know of them before training on them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow

TURNED, MIRRORED = (3, 6, 8), (2, 4, 5, 7)  # orientations, as in EXIF
# Followed by the number of the channel, from 0.
OTHER_CHANNEL = "audio_channel_"


@dataclass(frozen=True)
class NoteText:
    """A note in words."""

    title: str
    meaning: str


TEXTS = {
    "silent": NoteText("Silent clips", "Every sample is within -60 dB of full scale of a constant."),
    "still": NoteText("Still clips", "All frames show the same image."),
    "audio_gaps": NoteText(
        "Clips with gaps in their audio",
        "The file has no audio there, or it could not be decoded; the log-mel there is that of zeros.",
    ),
    "frame_gaps": NoteText(
        "Clips with gaps in their frames", "The first frame comes later, or some could not be decoded."
    ),
    "turned": NoteText("Turned clips", "Stored as players show them, which turn the frames of the file."),
    "mirrored": NoteText(
        "Mirrored clips", "Stored as players show them, which mirror the frames of the file."
    ),
    "non_square_pixels": NoteText(
        "Clips of files with non-square pixels", "Stored with the proportions that players show."
    ),
}


def notes_of(row: IndexRow) -> list[str]:
    """The notes on a clip: names of TEXTS, and OTHER_CHANNEL with a number; none unless it is in state ok."""
    return [] if row.clip is None else list(_notes(row, row.clip))


def count_notes(rows: Iterable[IndexRow]) -> dict[str, int]:
    """On how many clips each note is, without those on none."""
    return dict(sorted(Counter(note for row in rows for note in notes_of(row)).items()))


def note_text(note: str) -> NoteText:
    """The words for a note that `notes_of` gives."""
    if note.startswith(OTHER_CHANNEL):
        number = note.removeprefix(OTHER_CHANNEL)
        meaning = "Those before it are silent. `cavsync prepare --audio-channel mean` mixes all channels."
        return NoteText(f"Clips with the audio of channel {number}, counted from 0", meaning)
    return TEXTS[note]


def _notes(row: IndexRow, clip: ClipFacts) -> Iterator[str]:
    ratio = row.media and row.media.sample_aspect_ratio
    found = {
        "silent": clip.silent,
        "still": clip.still,
        "audio_gaps": len(clip.audio_gaps_s) > 0,
        "frame_gaps": len(clip.frame_gaps_s) > 0,
        "turned": clip.orientation in TURNED,
        "mirrored": clip.orientation in MIRRORED,
        "non_square_pixels": ratio is not None and ratio != 1,
    }
    yield from (note for note, applies in found.items() if applies)
    if clip.audio_channel:
        yield f"{OTHER_CHANNEL}{clip.audio_channel}"
