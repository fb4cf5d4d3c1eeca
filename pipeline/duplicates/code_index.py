"""Pairs of similar 64-bit codes among many millions, in about linear time: by sorting, not by comparing all with all.

Two codes are found if they share one of a few keys, the first bits after a rotation, and differ in few of all bits. Entries are
sorted by each rotation in turn, and each is compared with the next ones of the same key. A longer list has longer keys, so that
the number of accidental meetings grows with its length and not with its square. Of a key that very many clips share (a jingle, a
title card) each entry meets its nearest neighbours only: NEIGHBOURS bounds the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CODE_BITS = 64
ROTATIONS = range(0, CODE_BITS, 8)
MIN_KEY_BITS, MAX_KEY_BITS = 16, 32
SPARE_BITS = 2  # keys are so much longer than numbering the entries takes
NEIGHBOURS = 32


@dataclass(frozen=True)
class CodeList:
    """Codes to be compared, and the clips that they belong to."""

    codes: np.ndarray  # uint64 (entries,)
    owners: np.ndarray  # int32 (entries,): numbers of clips
    # int8 (entries,) or None: two entries meet only if these differ, as those of two datasets.
    sides: np.ndarray | None = None


@dataclass(frozen=True)
class SimilarCodes:
    """Entries of different clips whose codes are similar, each pair once, the smaller entry first."""

    first: np.ndarray  # int64 (pairs,)
    second: np.ndarray  # int64 (pairs,)
    num_limited: int  # entries that met only the nearest of those with their key, over all keys


def key_bits(num_entries: int) -> int:
    """Bits of the keys for a list of so many entries."""
    return int(np.clip(np.ceil(np.log2(max(2, num_entries))) + SPARE_BITS, MIN_KEY_BITS, MAX_KEY_BITS))


def similar_codes(listed: CodeList, max_distance: int, num_key_bits: int | None = None) -> SimilarCodes:
    """Pairs of entries whose codes differ in at most `max_distance` bits and agree in a key."""
    num_bits = key_bits(len(listed.codes)) if num_key_bits is None else num_key_bits
    pairs: list[np.ndarray] = []
    num_limited = 0
    for rotation in ROTATIONS:
        table = _Table.of(listed, rotation, num_bits)
        pairs += [np.sort(pair, axis=0) for pair in table.pairs(listed, max_distance)]
        num_limited += table.num_limited()
    met = np.concatenate([*pairs, np.zeros((2, 0), np.int64)], axis=1)
    # A pair as one number is sorted fifty times as fast as a column.
    num_entries = max(1, len(listed.codes))
    numbers = np.unique(met[0] * num_entries + met[1])
    return SimilarCodes(numbers // num_entries, numbers % num_entries, num_limited)


@dataclass(frozen=True)
class _Table:
    """The entries in the order of one rotation; of those of one clip with one key, one."""

    entries: np.ndarray  # int64 (kept,)
    codes: np.ndarray  # uint64 (kept,), rotated and ascending
    keys: np.ndarray  # uint64 (kept,)

    @classmethod
    def of(cls, listed: CodeList, rotation: int, num_bits: int) -> "_Table":
        rotated = _rotated(listed.codes, rotation)
        shift = np.uint64(CODE_BITS - num_bits)
        # A still clip has the same frame many times, which would keep its entries from meeting those of others.
        _, kept = np.unique(
            ((rotated >> shift) << np.uint64(32)) | listed.owners.astype(np.uint64), return_index=True
        )
        order = kept[np.argsort(rotated[kept], kind="stable")]
        codes = rotated[order]
        return cls(order, codes, codes >> shift)

    def pairs(self, listed: CodeList, max_distance: int) -> Iterator[np.ndarray]:
        """int64 (2, pairs) of entries, for each distance in the order."""
        active = np.arange(len(self.codes))
        for lag in range(1, NEIGHBOURS + 1):
            active = self._with_same_key(active, lag)
            if not len(active):
                return
            near = np.bitwise_count(self.codes[active] ^ self.codes[active + lag]) <= max_distance
            pair = np.stack([self.entries[active[near]], self.entries[active[near] + lag]])
            yield pair[:, _may_meet(listed, *pair)]

    def num_limited(self) -> int:
        return len(self._with_same_key(np.arange(len(self.codes)), NEIGHBOURS + 1))

    def _with_same_key(self, numbers: np.ndarray, lag: int) -> np.ndarray:
        numbers = numbers[: np.searchsorted(numbers, len(self.keys) - lag)]
        same: np.ndarray = numbers[self.keys[numbers] == self.keys[numbers + lag]]
        return same


def _may_meet(listed: CodeList, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """bool (pairs,)"""
    differ: np.ndarray = listed.owners[first] != listed.owners[second]
    if listed.sides is not None:
        differ &= listed.sides[first] != listed.sides[second]
    return differ


def _rotated(codes: np.ndarray, bits: int) -> np.ndarray:
    if bits == 0:
        return codes
    return (codes << np.uint64(bits)) | (codes >> np.uint64(CODE_BITS - bits))
