"""Index rows of clips that nothing prepared."""

from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow
from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, ClipState, clip_key


def prepared_row(
    clip_id: str = "clip", *, duration_s: float = 10.0, num_frames: int = 16, source: str | None = None
) -> IndexRow:
    """A clip of split "train" in state ok, with its frames at equal distances and no windows."""
    return IndexRow(
        key=clip_key(clip_id, 0.0),
        clip_id=clip_id,
        split="train",
        source=source,
        source_start_s=0.0,
        start_s=0.0,
        end_s=duration_s,
        state=ClipState.OK,
        clip=ClipFacts(
            duration_s=duration_s,
            frame_pts_s=frame_times_s(duration_s, num_frames).tolist(),
            num_mel_rows=round(duration_s * MEL_ROWS_PER_S),
            window_start=(),
            window_stop=(),
            silent=False,
            still=False,
        ),
    )
