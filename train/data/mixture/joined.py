"""The clips of several datasets, numbered through."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Numbered(Protocol[T_co]):
    """What has a length and an item for each number below it."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> T_co: ...


class ClipsOfOne(Numbered[T_co], Protocol[T_co]):
    """The clips of a split of one dataset."""

    num_left_out: int

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def labels(self) -> list[list[str]]: ...

    def identifiers(self) -> Iterator[str]:
        """The keys, as they are in the dataset alone."""
        ...

    def stored_keys(self) -> pa.ChunkedArray:
        """The same as an array."""
        ...

    def frame_counts(self) -> list[int]: ...


class JoinedSequence(Sequence[T]):
    """The items of `parts`, one part after the other."""

    def __init__(self, parts: Sequence[Numbered[T]]) -> None:
        self._parts = parts
        self._bounds: list[int] = np.cumsum([0, *map(len, parts)]).tolist()

    def __len__(self) -> int:
        return self._bounds[-1]

    @overload
    def __getitem__(self, number: int) -> T: ...

    @overload
    def __getitem__(self, number: slice) -> list[T]: ...

    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        if not 0 <= number < len(self):
            raise IndexError(f"item {number} of {len(self)}")
        part = bisect_right(self._bounds, number) - 1
        return self._parts[part][number - self._bounds[part]]


class JoinedClips(JoinedSequence[T]):
    """The clips of `stores`, one for each dataset. A clip is known by its dataset and its key: two of one key are two."""

    def __init__(self, stores: Sequence[ClipsOfOne[T]]) -> None:
        super().__init__(stores)
        self.stores = stores
        self.num_left_out = sum(store.num_left_out for store in stores)
        self.keys = JoinedSequence([store.keys for store in stores])

    @property
    def labels(self) -> list[list[str]]:
        """The ids of each clip's labels."""
        return list(chain.from_iterable(store.labels for store in self.stores))

    def identifiers(self) -> Iterator[str]:
        """The key of each clip after the number of its dataset."""
        for number, store in enumerate(self.stores):
            yield from (f"{number}/{key}" for key in store.identifiers())

    def frame_counts(self) -> list[int]:
        """The numbers of used frames that clips have, ascending."""
        return sorted(set(chain.from_iterable(store.frame_counts() for store in self.stores)))

    def num_repeated_keys(self) -> int:
        """How many clips have the key of a clip in an earlier dataset."""
        chunks = chain.from_iterable(store.stored_keys().chunks for store in self.stores)
        return len(self) - int(pc.count_distinct(pa.chunked_array(chunks, pa.string())).as_py())
