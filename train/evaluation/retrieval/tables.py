"""The figures of a retrieval as rows and cells of tables."""

from collections.abc import Iterator, Mapping, Sequence

from cavsync.train.evaluation.retrieval.metrics import RECALLS_AT, Direction, Directions, Retrieval
from cavsync.train.reporting.page import Score, Table

AUDIO_TO_VIDEO, VIDEO_TO_AUDIO = "audio → video", "video → audio"
R_AT = tuple(f"R@{k}" for k in RECALLS_AT)


def retrieval_rows(result: Retrieval) -> list[Score]:
    """The table: recalls and median rank of each direction, then the same where any clip of the class is right."""
    return [*own_clip_rows(result), *same_class_rows(result)]


def own_clip_rows(result: Retrieval) -> list[Score]:
    return [
        row
        for name, direction in two_ways(result.own_clip)
        for row in _rows(name, direction, result.num_clips)
    ]


def same_class_rows(result: Retrieval) -> list[Score]:
    if result.same_class is None:
        return []
    return [
        Score(f"{name} same class R@{k}", recall, "any clip that shares a label")
        for name, direction in two_ways(result.same_class)
        for k, recall in direction.recalls.items()
    ]


def two_ways(directions: Directions) -> Sequence[tuple[str, Direction]]:
    return [(AUDIO_TO_VIDEO, directions.audio_to_video), (VIDEO_TO_AUDIO, directions.video_to_audio)]


def recall_table(title: str, rows: Mapping[str, Directions]) -> Table:
    """A row of recalls in both directions for each name, under the title of the names."""
    cells = [
        [name, *recall_cells(one.audio_to_video), *recall_cells(one.video_to_audio)]
        for name, one in rows.items()
    ]
    return Table([title, *R_AT, *R_AT], cells, groups=recall_groups(AUDIO_TO_VIDEO, VIDEO_TO_AUDIO))


def recall_groups(*names: str) -> list[tuple[str, int]]:
    """The titles above the columns of recalls, each with the number of columns that it is over."""
    return [("", 1), *((name, len(R_AT)) for name in names)]


def recall_cells(direction: Direction) -> list[str]:
    return [f"{recall.value:.1f}" for recall in direction.recalls.values()]


def _rows(name: str, direction: Direction, num_clips: int) -> Iterator[Score]:
    for k, recall in direction.recalls.items():
        yield Score(f"{name} R@{k}", recall)
    yield Score(f"{name} median rank", direction.median.with_chance((num_clips + 1) / 2), "1 is best")
