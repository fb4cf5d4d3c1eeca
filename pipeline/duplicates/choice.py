"""For each clip of a dataset, the clip that it repeats: what is left without those has each recording once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from cavsync.pipeline.duplicates.fingerprints import Fingerprints
from cavsync.pipeline.duplicates.pairs import DuplicatePair

# Column -> how pairs matched that count for it.
COLUMNS = {"duplicate_of": "both", "same_audio_as": "audio", "same_frames_as": "frames"}


def repeated_clips(
    clips: Fingerprints, pairs: Sequence[DuplicatePair], roles: Mapping[str, str], within: bool
) -> pa.Table:
    """Columns key, and COLUMNS: the clip that each repeats, null for one that repeats none; a row for each clip. In a file they serve
    as scores, for `cavsync data subset --scores` and `data.scores`.

    `within`: pairs are among the clips. Then of each pair one clip counts as repeated: a training clip before a test clip
    (`roles`: split -> role), the shorter one, the one whose key is later; and a clip whose partner is itself repeated stays. Else
    the partner is in another dataset.
    """
    order = _preferred_first(clips, roles)
    columns: dict[str, Any] = {"key": clips.keys.tolist()}
    for name, matched in COLUMNS.items():
        chosen = [pair for pair in pairs if pair.matched == matched]
        repeats = _within(order, chosen) if within else _across(chosen)
        columns[name] = pa.array([repeats.get(key) for key in columns["key"]], pa.string())
    return pa.table(columns)


def _preferred_first(clips: Fingerprints, roles: Mapping[str, str]) -> list[str]:
    def preference(number: int) -> tuple[bool, float, str]:
        is_training = roles.get(str(clips.splits[number])) == "train"
        return is_training, -round(float(clips.duration_s[number]), 1), str(clips.keys[number])

    return [str(clips.keys[number]) for number in sorted(range(len(clips)), key=preference)]


def _within(order: Sequence[str], pairs: Sequence[DuplicatePair]) -> dict[str, str]:
    """Repeated key -> the key that stays."""
    overlaps: dict[str, dict[str, float]] = defaultdict(dict)
    for pair in pairs:
        overlaps[pair.key][pair.other] = overlaps[pair.other][pair.key] = pair.overlap_s
    repeats: dict[str, str] = {}
    for key in order:
        if key in repeats:
            continue
        for partner in overlaps.get(key, ()):
            repeats.setdefault(partner, key)
    return repeats


def _across(pairs: Sequence[DuplicatePair]) -> dict[str, str]:
    """Key -> the key in the other dataset that it shares most seconds with."""
    longest: dict[str, DuplicatePair] = {}
    for pair in pairs:
        if pair.key not in longest or pair.overlap_s > longest[pair.key].overlap_s:
            longest[pair.key] = pair
    return {key: pair.other for key, pair in longest.items()}
