"""Reads sample clips: index rows, frames, log-mel, and their audio as it was kept, or from the source video if it is still there."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice

import numpy as np
import pyarrow.compute as pc

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.inventory import Inventory, InventoryError, plan_files, plan_inputs
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import VIDEOS, read_plan
from cavsync.pipeline.dataset.reader import ClipContent, read_clip
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.pipeline.media.encode import wav_bytes
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import as_path

# Comparing a key with more than these would take seconds; in order of the alphabet the nearest are neighbours.
MAX_COMPARED = 5_000
AUDIO_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class PlayableFile:
    """An audio file for a page."""

    content: bytes
    suffix: str  # "wav", or the codec in which the audio was kept


@dataclass(frozen=True)
class SampleClip:
    """One clip; what failed has neither stored content nor audio, what lost its source has no audio unless that was kept."""

    row: IndexRow  # labels by their display names
    stored: ClipContent | None
    audio: PlayableFile | None
    no_audio: str  # why a clip in state ok has none


def clip_of_key(inventory: Inventory, key: str) -> SampleClip:
    """The clip of that key. Raises InventoryError for one that is not planned, or not prepared yet."""
    shards = [shard for shard in _shards_with(inventory, key) if shard in inventory.records]
    if not shards:
        raise InventoryError(
            f"{key} is planned but not prepared yet; {inventory.finished_share}. Repeat the prepare command "
            "to go on."
        )
    rows = [row for shard in shards for row in inventory.rows(shard) if row.key == key]
    prepared = [row for row in rows if row.state != ClipState.DUPLICATE]
    with DecoderProcess() as decoder:
        return _sample_clip(inventory, (prepared or rows)[-1], decoder)


def first_clips(inventory: Inventory, num: int, *, split: str | None, state: str | None) -> list[SampleClip]:
    """Up to `num` clips of a split and state; shards mix the clips of their split, so these are a fair sample."""
    shards = list(inventory.shards_of(split))
    rows = (row for shard in shards for row in inventory.rows(shard) if state in (None, row.state))
    with DecoderProcess() as decoder:
        clips = [_sample_clip(inventory, row, decoder) for row in islice(rows, num)]
    if not clips:
        counted = ", ".join(f"{count:,} {name}" for name, count in inventory.states().most_common()) or "none"
        wanted = f"in state {state}" if state else "to show"
        raise InventoryError(
            f"{inventory.paths.root} has no clip {wanted}{f' in split {split}' if split else ''}; "
            f"{inventory.finished_share}, their clips are: {counted}."
        )
    return clips


def _shards_with(inventory: Inventory, key: str) -> Iterator[str]:
    """The shards that the key is planned in, retries last."""
    found: list[str] = []
    for file in plan_files(inventory.paths):
        found += read_plan(file, ["shard"], [("key", "=", key)])["shard"].to_pylist()
    if not found:
        raise InventoryError(_unknown_key(inventory, key))
    return iter(dict.fromkeys(found))


def _unknown_key(inventory: Inventory, key: str) -> str:
    planned = read_plan(inventory.paths.plan, ["key"])["key"]
    keys = sorted({*pc.unique(planned).to_pylist()})
    if len(keys) > MAX_COMPARED:
        index = bisect_left(keys, key)
        keys = keys[max(0, index - MAX_COMPARED // 2) : index + MAX_COMPARED // 2]
    ids = {key, key.rpartition("_")[0]}  # the same video, whether a time was given or not
    nearest = [one for one in keys if one.rpartition("_")[0] in ids] or get_close_matches(key, keys)
    hint = f"the nearest is {', '.join(nearest[:3])}" if nearest else f"keys are like {keys[0]}"
    return f"{inventory.paths.root} lists no clip {key}; {hint}."


def _sample_clip(inventory: Inventory, row: IndexRow, decoder: DecoderProcess) -> SampleClip:
    stored = read_clip(inventory.paths, row) if row.state == ClipState.OK else None
    names = inventory.label_names
    row = replace(row, labels=[names.get(label, label) for label in row.labels])
    if stored is None:
        return SampleClip(row, None, None, "")
    if row.kept is not None and stored.audio is not None:
        return SampleClip(row, stored, PlayableFile(stored.audio, row.kept.kept_codec), "")
    try:
        channel = plan_inputs(inventory.paths).get("audio_channel", "first")
        waveform = source_audio(row, channel, decoder, listed_archives(inventory.paths))
        return SampleClip(row, stored, PlayableFile(wav_bytes(waveform), "wav"), "")
    except (MediaError, StoreError) as error:
        return SampleClip(row, stored, None, f"no audio to play: {error}")


def listed_archives(paths: DatasetPaths) -> ArchiveSet | None:
    """The archives that a dataset was made from, as they were listed for it; None where its plan is gone."""
    if not paths.plan.is_file():
        return None
    return ArchiveSet(as_path(plan_inputs(paths)[VIDEOS]), paths.archives, only_kept=True)


def source_audio(
    row: IndexRow, channel: AudioChannel, decoder: DecoderProcess, archives: ArchiveSet | None = None
) -> np.ndarray:
    """(samples,) float32 at 16 kHz: what the log-mel of an index row was computed from, decoded again from its source,
    which may lie in one of `archives`.

    Raises MediaError where that is gone or cannot be read any more, StoreError where its store does not answer.
    """
    if row.source is None or row.source_start_s is None or row.clip is None:
        raise MediaError(ClipState.MISSING, f"{row.source} is no longer there")
    source = as_path(row.source) if archives is None else archives.path_of(row.source)
    if not source.is_file():
        raise MediaError(ClipState.MISSING, f"{row.source} is no longer there")
    # Without frames, but not the audio alone: both streams are read from the video's keyframe on, as for the log-mel.
    request = SegmentRequest(
        source, row.source_start_s, row.clip.duration_s, (), channel=channel, timeout_s=AUDIO_TIMEOUT_S
    )
    segment = decoder.read(request)
    if not len(segment.waveform):
        raise MediaError(ClipState.NO_AUDIO, f"{row.source} has no audio there")
    return segment.waveform
