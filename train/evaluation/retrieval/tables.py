"""The figures of a retrieval as rows and cells of tables."""

from collections.abc import Iterator, Sequence

from cavsync.train.evaluation.retrieval.recall import RECALLS_AT, Direction, Directions, Retrieval
from cavsync.train.reporting.page import Score

HEARD, SEEN = "sound → video", "video → sound"
R_AT = tuple(f"R@{k}" for k in RECALLS_AT)


def retrieval_rows(result: Retrieval) -> list[Score]:
    """The table: recalls and median rank of each direction, then the same where any clip of the class is right."""
    return [*own_clip_rows(result), *same_class_rows(result)]


def own_clip_rows(result: Retrieval) -> list[Score]:
    return [row for name, one in two_ways(result.own_clip) for row in _rows(name, one, result.num_clips)]


def same_class_rows(result: Retrieval) -> list[Score]:
    if result.same_class is None:
        return []
    return [
        Score(
            f"{name} same class R@{r.k}", r.percent, r.chance, r.low, r.high, "any clip that shares a label"
        )
        for name, one in two_ways(result.same_class)
        for r in one.recalls
    ]


def two_ways(directions: Directions) -> Sequence[tuple[str, Direction]]:
    return [(HEARD, directions.audio_to_video), (SEEN, directions.video_to_audio)]


def groups(*names: str) -> list[tuple[str, int]]:
    """What stands above the columns of recalls."""
    return [("", 1), *((name, len(R_AT)) for name in names)]


def recall_cells(direction: Direction) -> list[str]:
    return [f"{recall.percent:.1f}" for recall in direction.recalls]


def _rows(name: str, direction: Direction, num_clips: int) -> Iterator[Score]:
    for r in direction.recalls:
        yield Score(f"{name} R@{r.k}", r.percent, r.chance, r.low, r.high)
    median, by_chance = direction.median, (num_clips + 1) / 2
    yield Score(f"{name} median rank", median.rank, by_chance, median.low, median.high, "1 is best", unit="")
