"""Which clips of a split are trained on: those without long gaps, and those that a condition keeps."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cavsync.pipeline.curation.clip_filter import CLIP_SCHEMA, ClipFilter
from cavsync.pipeline.curation.score_file import with_scores
from cavsync.pipeline.dataset.index_row import GAP_COLUMNS, missing_s
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.storage.path import as_path

# Sums of times are off by less.
SAME_LENGTH_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class ClipChoice:
    """The clips that meet every criterion that is given; `DataConfig` says what each means."""

    max_gap_s: float | None = None
    keep: str | None = None
    scores: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether no criterion is given."""
        return self.max_gap_s is None and self.keep is None

    @property
    def columns(self) -> list[str]:
        """Those of the index that `kept` needs."""
        gaps = GAP_COLUMNS if self.max_gap_s is not None else ()
        named = [name for name in CLIP_SCHEMA.names if name in (self.keep or "").lower()]
        return sorted({"key", *gaps, *named})

    def kept(self, clips: pa.Table, where: str) -> np.ndarray:
        """bool (clips,): which of the rows of an index, with `columns`, are trained on.

        Raises DatasetError where none is, FilterError for a condition that is none, ScoreFileError for a file of scores
        that cannot be joined; `where` names the clips.
        """
        is_kept = np.ones(len(clips), bool)
        if self.max_gap_s is not None:
            is_kept &= without_long_gaps(missing_s(clips), self.max_gap_s, where)
        if self.keep is not None:
            is_kept &= self._meeting_condition(clips)
        if not is_kept.any():
            raise DatasetError(
                f"{self.described} leaves no clip of {where}: none of its {len(clips):,} clips meets it. Change it, or take "
                "all clips with --set data.keep=none."
            )
        return is_kept

    @property
    def described(self) -> str:
        """The criteria as the user gave them."""
        given = {"max_gap_s": self.max_gap_s, "keep": self.keep}
        return ", ".join(f"data.{name}={value}" for name, value in given.items() if value is not None)

    def _meeting_condition(self, clips: pa.Table) -> np.ndarray:
        condition = ClipFilter(self.keep or "", "data.keep")
        joined = with_scores(clips, [as_path(self.scores)] if self.scores else [], "data.scores")
        scores = [joined.schema.field(name) for name in joined.column_names[len(clips.column_names) :]]
        # All columns, not those that are read: the message on a wrong name lists them.
        condition.check(pa.schema([*CLIP_SCHEMA, *scores]))
        return condition.kept(joined)


ALL_CLIPS = ClipChoice()


def without_long_gaps(missing_s: np.ndarray, max_gap_s: float, where: str) -> np.ndarray:
    """bool (clips,): whether each clip lacks `max_gap_s` at most, from the float64 (clips,) seconds that it lacks.

    Raises DatasetError where none does; `where` names the clips.
    """
    is_kept: np.ndarray = missing_s <= max_gap_s + SAME_LENGTH_S
    if not is_kept.any():
        raise DatasetError(
            f"data.max_gap_s={max_gap_s:g} leaves no clip of {where}: each of its {len(missing_s):,} clips lacks "
            f"{missing_s.min():.2f} s of audio or frames, or more. Raise it, or take all clips with "
            "--set data.max_gap_s=none."
        )
    return is_kept
