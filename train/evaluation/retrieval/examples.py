"""Retrieval to look at and listen to: queries that were answered right and wrong, with what was answered."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cavsync.pipeline.dataset.index_row import IndexRow, index_rows
from cavsync.pipeline.dataset.reader import ClipContent, Dataset, read_clip
from cavsync.train.evaluation.retrieval.protocol import RetrievalScores
from cavsync.train.evaluation.retrieval.similarity import CHUNK_CLIPS, similarity
from cavsync.train.reporting.audio import listen
from cavsync.train.reporting.page import Answer, Media, Query, Section
from cavsync.train.reporting.plots import mel_strip, thumbnail

FRAMES_SHOWN = 4
ANSWERS_SHOWN = 4
HITS_SHOWN, MISSES_SHOWN = 3, 5


@dataclass(frozen=True)
class _Direction:
    title: str
    text: str
    ranks: np.ndarray
    scores_of: Callable[[int], Tensor]  # a query's scores with all candidates
    show_query: Callable[[int], Media]
    show_answer: Callable[[int], Media]


class Exhibition:
    """The clips of an evaluation, as far as a dataset holds them."""

    def __init__(self, scores: RetrievalScores, dataset: Dataset) -> None:
        self.scores, self._dataset = scores, dataset
        rows = dataset.index_table(scores.source.split)
        keys = pa.array([scores.source.key(name) for name in scores.embeddings.keys], pa.string())
        shown = rows.filter(pc.is_in(rows["key"], value_set=keys))
        self._rows = {row.key: row for row in index_rows(shown)}
        self._channel = dataset.summary["config"].get("audio_channel", "first")
        self._heard: dict[int, Media] = {}

    def has(self, clip: int) -> bool:
        return self._key(clip) in self._rows

    def sound(self, clip: int) -> Media:
        """Made once for each clip: a good answer to one query is often one to others."""
        if clip not in self._heard:
            row, stored = self._clip(clip)
            heard = listen(row, stored.mel, self._channel)
            strip = mel_strip(stored.mel)
            self._heard[clip] = Media(self._title(clip), mel=strip, mp3=heard.mp3, remade=heard.remade)
        return self._heard[clip]

    def video(self, clip: int) -> Media:
        frames = self._clip(clip)[1].frames
        shown = np.linspace(0, len(frames) - 1, min(FRAMES_SHOWN, len(frames))).round().astype(int)
        return Media(self._title(clip), frames=[thumbnail(frames[number]) for number in shown])

    def _clip(self, clip: int) -> tuple[IndexRow, ClipContent]:
        row = self._rows[self._key(clip)]
        return row, read_clip(self._dataset.paths, row)

    def _key(self, clip: int) -> str:
        return self.scores.source.key(self.scores.embeddings.keys[clip])

    def _title(self, clip: int) -> str:
        labels = self.scores.labels[clip] if self.scores.labels else []
        return " · ".join([self.scores.embeddings.keys[clip], *filter(None, [", ".join(labels)])])


def example_sections(scores: RetrievalScores, seed: int = 0) -> list[Section]:
    """One section a direction; a sentence instead where no dataset holds the clips."""
    if scores.source.dataset is None:
        text = "A file of embeddings holds neither pictures nor sounds; name the dataset with --data to see them here."
        return [Section("What was found", text)]
    show = Exhibition(scores, scores.source.dataset)
    ranks = scores.headline.ranking.own_clip
    directions = [
        _Direction(
            "Which video does this sound belong to?",
            f"The query is a clip's sound; answers show {FRAMES_SHOWN} of their frames.",
            ranks.audio_to_video,
            lambda query: _scores_of_sound(scores, query),
            show.sound,
            show.video,
        ),
        _Direction(
            "Which sound does this video belong to?",
            f"The query shows {FRAMES_SHOWN} of a clip's frames; answers are sounds.",
            ranks.video_to_audio,
            lambda query: _scores_of_video(scores, query),
            show.video,
            show.sound,
        ),
    ]
    return [_section(direction, show, seed) for direction in directions]


def _section(direction: _Direction, show: Exhibition, seed: int) -> Section:
    candidates = [clip for clip in range(len(direction.ranks)) if show.has(clip)]
    drawn = np.random.default_rng(seed).permutation(candidates).tolist()
    hits = [clip for clip in drawn if direction.ranks[clip] == 0]
    misses = [clip for clip in drawn if direction.ranks[clip] > 0]
    queries = [
        _query(direction, show, clip) for clip in (*sorted(hits[:HITS_SHOWN]), *sorted(misses[:MISSES_SHOWN]))
    ]
    text = (
        f"{direction.text} Drawn at random from the {len(hits):,} that were answered right and the {len(misses):,} that "
        "were not. Green marks the right clip; where it is not among the first answers, it stands at the end with its rank."
    )
    if any(media.remade for query in queries for media in query.all_media()):
        text += (
            " Sounds marked “remade” come out of the log-mel by Griffin and Lim's method, because their source video is "
            "not within reach: pitch and rhythm are right, the timbre is not."
        )
    return Section(direction.title, text, queries=queries)


def _query(direction: _Direction, show: Exhibition, clip: int) -> Query:
    scores = direction.scores_of(clip)
    order = scores.argsort(descending=True, stable=True).tolist()
    rank = int(direction.ranks[clip]) + 1
    answers = [
        Answer(direction.show_answer(one), float(scores[one]), rank if one == clip else place, one == clip)
        for place, one in enumerate(order[:ANSWERS_SHOWN], 1)
        if show.has(one)
    ]
    if not any(answer.right for answer in answers):
        answers.append(Answer(direction.show_answer(clip), float(scores[clip]), rank, right=True))
    return Query(direction.show_query(clip), rank, answers)


def _scores_of_sound(scores: RetrievalScores, query: int) -> Tensor:
    embeddings = scores.embeddings
    heard = embeddings.audio[query : query + 1]
    chunks = torch.split(embeddings.image, CHUNK_CLIPS)
    return torch.cat([similarity(heard, chunk, scores.job.headline)[0] for chunk in chunks])


def _scores_of_video(scores: RetrievalScores, query: int) -> Tensor:
    embeddings = scores.embeddings
    seen = embeddings.image[query : query + 1]
    chunks = torch.split(embeddings.audio, CHUNK_CLIPS)
    return torch.cat([similarity(chunk, seen, scores.job.headline)[:, 0] for chunk in chunks])
