"""Decodes what a shard holds of one clip, and compares it with the clip's row of the index."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from cavsync.pipeline.dataset.index_row import IndexRow, KeptAudio, row_columns
from cavsync.pipeline.dataset.schema import NUM_MELS, audio_member, frame_member, json_member, mel_member
from cavsync.pipeline.inspection.tar import Member
from cavsync.pipeline.media.audio_file import decoded_audio


def members_of(row: IndexRow) -> list[Member]:
    """Where the index says a clip's members are, in the order of the tar: frames, JSON, log-mel, audio file."""
    if row.members is None:
        return []
    names = [frame_member(row.key, frame) for frame in range(len(row.members.frame_offset))]
    names += [json_member(row.key), mel_member(row.key)]
    if row.kept is not None:
        names.append(audio_member(row.key, row.kept.kept_codec))
    # Where names and places disagree on an audio file, the check of the row says so.
    return [Member(name, *span) for name, span in zip(names, row.members.spans, strict=False)]


def undecodable(tar: Any, row: IndexRow, config: Mapping[str, Any]) -> Iterator[str]:
    """The faults of the members of a clip, one phrase each; `config` has the fields of PrepareConfig."""
    columns, members = row_columns(row), members_of(row)
    num_frames = len(row.members.frame_offset) if row.members else 0
    text, mel, *audio = members[num_frames:]
    for frame in members[:num_frames]:
        yield from _checked(frame.name, partial(_wrong_frame, content_of(tar, frame), config))
    yield from _checked(mel.name, partial(_wrong_mel, content_of(tar, mel), columns["num_mel_rows"]))
    yield from _checked(text.name, partial(_wrong_text, content_of(tar, text), columns))
    if audio and row.kept and row.clip:
        wrong = partial(_wrong_audio, content_of(tar, audio[0]), row.kept, row.clip.duration_s)
        yield from _checked(audio[0].name, wrong)


def content_of(tar: Any, member: Member) -> bytes:
    tar.seek(member.offset)
    content: bytes = tar.read(member.size)
    return content


def _checked(name: str, check: Callable[[], str | None]) -> Iterator[str]:
    """The fault that `check` finds, or the error that it raises."""
    try:
        problem = check()
    except (OSError, ValueError, EOFError) as error:  # of PIL, numpy and json
        problem = f"cannot be read: {error}"
    if problem is not None:
        yield f"{name} {problem}"


def _wrong_frame(jpeg: bytes, config: Mapping[str, Any]) -> str | None:
    with Image.open(io.BytesIO(jpeg)) as frame:
        frame.load()
        size = frame.size
    side = config["frame_size"]
    fits = size == (side, side) if config["crop"] == "centre" else min(size) == side
    return None if fits else f"is {size[0]} x {size[1]} pixels, frame_size is {side}"


def _wrong_mel(content: bytes, num_rows: int) -> str | None:
    mel = np.load(io.BytesIO(content), allow_pickle=False)
    if (mel.shape, mel.dtype) != ((num_rows, NUM_MELS), np.float16):
        return f"is {mel.dtype} {mel.shape}, not float16 ({num_rows}, {NUM_MELS})"
    return None if np.isfinite(mel).all() else "holds values that are not finite"


def _wrong_audio(content: bytes, kept: KeptAudio, duration_s: float) -> str | None:
    num_channels, num_samples = decoded_audio(content, kept.kept_codec, kept.kept_rate_hz).shape
    expected = round(duration_s * kept.kept_rate_hz)
    if (num_channels, num_samples) == (kept.kept_channels, expected):
        return None
    return f"has {num_channels} x {num_samples:,} samples, not {kept.kept_channels} x {expected:,}"


def _wrong_text(content: bytes, columns: Mapping[str, Any]) -> str | None:
    described = json.loads(content)
    # As JSON: a clip without labels has an empty tuple in its row.
    indexed = json.loads(json.dumps({name: columns.get(name) for name in described}))
    differing = [name for name, value in described.items() if indexed[name] != value]
    return f"differs from the index in {', '.join(differing)}" if differing else None
