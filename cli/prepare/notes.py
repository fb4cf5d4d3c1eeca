"""The lines at the end of a preparation about clips in state ok that lack something, or whose first channel is silent."""

from collections.abc import Iterator, Mapping

from cavsync.pipeline.dataset.clip_notes import OTHER_CHANNEL


def note_lines(notes: Mapping[str, int]) -> Iterator[str]:
    """The lines for `notes`, note -> clips: one for gaps, one for channels, each only where there are such clips."""
    lacking = [
        f"{part} in {_clips(notes[note])}"
        for note, part in (("audio_gaps", "audio"), ("frame_gaps", "frames"))
        if notes.get(note)
    ]
    if lacking:
        yield (
            f"Clips in state ok that lack parts: {', '.join(lacking)}. The index has the spans in audio_gaps_s and "
            "frame_gaps_s; training leaves such clips out with --set data.max_gap_s=SECONDS."
        )
    taken = [
        f"channel {note.removeprefix(OTHER_CHANNEL)} in {_clips(count)}"
        for note, count in notes.items()
        if note.startswith(OTHER_CHANNEL)
    ]
    if taken:
        yield (
            f"The first audio channel is silent, so another was stored (counted from 0): {', '.join(taken)}. "
            "--audio-channel mean mixes all channels."
        )


def _clips(count: int) -> str:
    return f"{count:,} clip{'s' if count > 1 else ''}"
