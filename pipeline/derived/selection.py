"""Which clips in state ok of a dataset go into a subset."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import CavsyncError, first_of
from cavsync.pipeline.curation.clip_filter import ClipFilter

MAX_SHOWN = 5


class SelectionError(CavsyncError):
    """A selection that cannot be made, or that leaves no clip; the message names the option and the value."""


@dataclass(frozen=True, kw_only=True)
class ClipSelection:
    """The clips that meet every criterion that is given. The share is taken last, of each split."""

    splits: Sequence[str] = ()
    labels: Sequence[str] = ()  # a clip needs one of them
    keys: Sequence[str] | None = None
    keep: str | None = None  # an SQL condition over the columns of the index
    share: float | None = None  # (0, 1], by a hash of the key: a larger share holds the smaller ones
    seed: int = 0  # of the hash

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise SelectionError(
                f"--share {self.share:g} is no share of the clips; it must be over 0, up to 1."
            )

    @property
    def is_all(self) -> bool:
        """Whether no criterion is given."""
        return not (self.splits or self.labels or self.keep) and self.keys is None and self.share is None

    def chosen(self, clips: pa.Table) -> pa.Table:
        """The rows of `clips`, which has the columns of the index, that meet all criteria, in their order.

        Raises SelectionError where a split or label does not occur or no clip is left, FilterError for a condition
        that is none.
        """
        for masked, criterion in self._criteria():
            mask = masked(clips)
            if not mask.any():
                raise SelectionError(f"{criterion} leaves none of {len(clips):,} clips.")
            clips = clips.filter(pa.array(mask))
        return clips

    def unknown_keys(self, clips: pa.Table) -> list[str]:
        """The keys of the selection that are none of the clips'."""
        known = set(clips["key"].to_pylist())
        return [key for key in self.keys or () if key not in known]

    def described(self) -> dict[str, Any]:
        """The criteria that are given, for the history of a dataset; keys as their number and hash."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        given |= {"splits": list(self.splits), "labels": list(self.labels)}
        if self.keys is not None:
            digest = hashlib.sha256("\n".join(self.keys).encode()).hexdigest()
            given["keys"] = {"number": len(self.keys), "sha256": digest}
        if self.share is None:
            del given["seed"]
        return {name: value for name, value in given.items() if value not in (None, [])}

    def _criteria(self) -> Iterator[tuple[Any, str]]:
        """For each that is given: clips -> bool (clips,), and the criterion in words."""
        if self.splits:
            yield self._of_splits, f"--split {', '.join(self.splits)}"
        if self.labels:
            yield self._with_labels, f"--label {', '.join(self.labels)}"
        if self.keys is not None:
            yield self._of_keys, f"--keys, a list of {len(self.keys):,},"
        if self.keep is not None:
            yield ClipFilter(self.keep).kept, f"--keep {self.keep!r}"
        if self.share is not None:
            yield self._in_share, f"--share {self.share:g}"

    def _of_splits(self, clips: pa.Table) -> np.ndarray:
        _require_known("split", self.splits, pc.unique(clips["split"]).to_pylist())
        return _is_in(clips["split"], self.splits)

    def _with_labels(self, clips: pa.Table) -> np.ndarray:
        labels: Any = pc.list_flatten(clips["labels"])
        _require_known("label", self.labels, pc.unique(labels).to_pylist())
        mask = np.zeros(len(clips), bool)
        mask[pc.list_parent_indices(clips["labels"]).to_numpy()[_is_in(labels, self.labels)]] = True
        return mask

    def _of_keys(self, clips: pa.Table) -> np.ndarray:
        return _is_in(clips["key"], self.keys or ())

    def _in_share(self, clips: pa.Table) -> np.ndarray:
        digests = np.array([_digest(self.seed, key) for key in clips["key"].to_pylist()], np.uint64)
        limit = np.uint64(min((self.share or 0.0) * 2.0**64, 2.0**64 - 2048))  # the greatest float below 2^64
        return np.ones(len(clips), bool) if self.share == 1 else digests < limit


def _is_in(values: Any, wanted: Sequence[str]) -> np.ndarray:
    found: np.ndarray = pc.is_in(values, value_set=pa.array(wanted, pa.string())).to_numpy()
    return found


def _require_known(kind: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            shown = first_of(sorted(known), MAX_SHOWN)
            raise SelectionError(
                f"No usable clip has the {kind} {name!r}; there are {len(known):,}: {shown}."
            )


def _digest(seed: int, key: str) -> int:
    # Another prefix than the plan's hash: the clips of a share must not be those of the first shards.
    return int.from_bytes(hashlib.blake2b(f"share:{seed}:{key}".encode(), digest_size=8).digest())
