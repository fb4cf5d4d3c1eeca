"""Retrieval to look at: a few queries, drawn at random, with the clips that the model answered."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from cavsync.pipeline.dataset import read_clip
from cavsync.pipeline.shards import DatasetPaths
from cavsync.train.evaluation.pictures import mel_strip
from cavsync.train.evaluation.report import Media, Query
from cavsync.train.evaluation.retrieval import ranks

FRAMES_SHOWN = 4
ANSWERS_SHOWN = 4

Show = Callable[[DatasetPaths, pd.Series], Media]


def retrieval_gallery(
    paths: DatasetPaths, rows: pd.DataFrame, scores: Tensor, num_queries: int, seed: int = 0
) -> tuple[list[Query], list[Query]]:
    """Sounds with the videos they found, and videos with the sounds they found.

    `scores` (N, N) has sounds in its rows and videos in its columns; `rows` are the N index rows in that order.
    """
    sound_to_video = _queries(paths, rows, scores, sound, video, num_queries, seed)
    video_to_sound = _queries(paths, rows, scores.T, video, sound, num_queries, seed)
    return sound_to_video, video_to_sound


def sound(paths: DatasetPaths, row: pd.Series) -> Media:
    return Media(title=_title(row), mel=mel_strip(read_clip(paths, row).mel))


def video(paths: DatasetPaths, row: pd.Series) -> Media:
    frames = read_clip(paths, row).frames
    shown = np.linspace(0, len(frames) - 1, FRAMES_SHOWN).round().astype(int)
    return Media(title=_title(row), frames=[frames[number] for number in shown])


def _queries(
    paths: DatasetPaths,
    rows: pd.DataFrame,
    scores: Tensor,
    show_query: Show,
    show_answer: Show,
    num_queries: int,
    seed: int,
) -> list[Query]:
    query_ranks = ranks(scores)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:num_queries]
    queries = []
    for number in sorted(drawn.tolist()):
        best = scores[number].topk(min(ANSWERS_SHOWN, len(rows))).indices.tolist()
        answers = [(show_answer(paths, rows.iloc[j]), float(scores[number, j]), j == number) for j in best]
        query = show_query(paths, rows.iloc[number])
        queries.append(Query(query, int(query_ranks[number]) + 1, answers))
    return queries


def _title(row: pd.Series) -> str:
    labels: Sequence[str] = row["labels"]
    return f"{row['key']} · {', '.join(labels)}"
