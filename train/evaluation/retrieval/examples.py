"""Example queries on the page: some that were answered right and some wrong, with the best answers of each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cavsync.pipeline.dataset.index_row import IndexRow, index_rows
from cavsync.pipeline.dataset.reader import ClipContent, Dataset, read_clip
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.inspection.clips import listed_archives
from cavsync.train.evaluation.retrieval.protocol import RetrievalScores
from cavsync.train.evaluation.retrieval.similarity import CHUNK_CLIPS, similarity
from cavsync.train.evaluation.retrieval.tables import AUDIO_TO_VIDEO, VIDEO_TO_AUDIO
from cavsync.train.reporting.audio import playable_audio
from cavsync.train.reporting.images import thumbnail
from cavsync.train.reporting.page import Answer, ClipPreview, RankedQuery, Section
from cavsync.train.reporting.plots import mel_strip

FRAMES_SHOWN = 4
ANSWERS_SHOWN = 4
HITS_SHOWN, MISSES_SHOWN = 3, 5


@dataclass(frozen=True)
class _Direction:
    title: str
    text: str
    ranks: np.ndarray  # (N,) 0 is best
    scores_of: Callable[[int], Tensor]  # (N,) a query's scores with all clips of the gallery
    preview_query: Callable[[int], ClipPreview]
    preview_answer: Callable[[int], ClipPreview]


class ClipPreviews:
    """Previews of the scored clips that a dataset holds; a clip is given by its index among the embeddings."""

    def __init__(self, scores: RetrievalScores, dataset: Dataset, decoder: DecoderProcess) -> None:
        self.scores, self._dataset, self._decoder = scores, dataset, decoder
        rows = dataset.index_table(scores.source.split)
        keys = pa.array([scores.source.key(name) for name in scores.embeddings.keys], pa.string())
        shown = rows.filter(pc.is_in(rows["key"], value_set=keys))
        self._rows = {row.key: row for row in index_rows(shown)}
        self._channel = dataset.summary["config"].get("audio_channel", "first")
        self._archives = listed_archives(dataset.paths)
        self._audio_previews: dict[int, ClipPreview] = {}

    def has(self, clip: int) -> bool:
        return self._key(clip) in self._rows

    def audio(self, clip: int) -> ClipPreview:
        """Made once for each clip: a good answer to one query is often one to others."""
        if clip not in self._audio_previews:
            row, stored = self._clip(clip)
            audio = playable_audio(row, stored, self._channel, self._decoder, self._archives)
            strip = mel_strip(stored.mel)
            preview = ClipPreview(self._title(clip), mel=strip, mp3=audio.mp3, from_mel=audio.from_mel)
            self._audio_previews[clip] = preview
        return self._audio_previews[clip]

    def video(self, clip: int) -> ClipPreview:
        frames = self._clip(clip)[1].frames
        shown = np.linspace(0, len(frames) - 1, min(FRAMES_SHOWN, len(frames))).round().astype(int)
        return ClipPreview(self._title(clip), frames=[thumbnail(frames[number]) for number in shown])

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
        text = "A file of embeddings holds neither frames nor audio; name the dataset with --data to see them here."
        return [Section("Examples", text)]
    with DecoderProcess() as decoder:
        return _sections(scores, ClipPreviews(scores, scores.source.dataset, decoder), seed)


def _sections(scores: RetrievalScores, previews: ClipPreviews, seed: int) -> list[Section]:
    ranks = scores.primary.ranking.own_clip
    directions = [
        _Direction(
            f"Examples: {AUDIO_TO_VIDEO}",
            f"The query is a clip's audio; answers show {FRAMES_SHOWN} frames of a clip.",
            ranks.audio_to_video,
            lambda query: _scores_of_audio(scores, query),
            previews.audio,
            previews.video,
        ),
        _Direction(
            f"Examples: {VIDEO_TO_AUDIO}",
            f"The query shows {FRAMES_SHOWN} frames of a clip; answers are the audio of clips.",
            ranks.video_to_audio,
            lambda query: _scores_of_video(scores, query),
            previews.video,
            previews.audio,
        ),
    ]
    return [_section(direction, previews, seed) for direction in directions]


def _section(direction: _Direction, previews: ClipPreviews, seed: int) -> Section:
    queries = [clip for clip in range(len(direction.ranks)) if previews.has(clip)]
    drawn = np.random.default_rng(seed).permutation(queries).tolist()
    hits = [clip for clip in drawn if direction.ranks[clip] == 0]
    misses = [clip for clip in drawn if direction.ranks[clip] > 0]
    shown = [
        _ranked_query(direction, previews, clip)
        for clip in (*sorted(hits[:HITS_SHOWN]), *sorted(misses[:MISSES_SHOWN]))
    ]
    text = (
        f"{direction.text} Drawn at random from the {len(hits):,} that were answered right and the {len(misses):,} that "
        "were not. Green marks the right clip; where it is not among the first answers, it stands at the end with its rank."
    )
    if any(preview.from_mel for query in shown for preview in query.all_previews()):
        text += (
            " Audio marked “from the log-mel” was reconstructed by Griffin and Lim's method, because its source video is "
            "not within reach: pitch and rhythm are right, the timbre is not."
        )
    return Section(direction.title, text, queries=shown)


def _ranked_query(direction: _Direction, previews: ClipPreviews, clip: int) -> RankedQuery:
    scores = direction.scores_of(clip)
    order = scores.argsort(descending=True, stable=True).tolist()
    rank = int(direction.ranks[clip]) + 1
    answers = [
        Answer(
            direction.preview_answer(one), float(scores[one]), rank if one == clip else position, one == clip
        )
        for position, one in enumerate(order[:ANSWERS_SHOWN], 1)
        if previews.has(one)
    ]
    if not any(answer.right for answer in answers):
        answers.append(Answer(direction.preview_answer(clip), float(scores[clip]), rank, right=True))
    return RankedQuery(direction.preview_query(clip), rank, answers)


def _scores_of_audio(scores: RetrievalScores, query: int) -> Tensor:
    audio = scores.embeddings.audio[query : query + 1]  # (1, F, D)
    chunks, aggregation = torch.split(scores.embeddings.image, CHUNK_CLIPS), scores.config.primary_aggregation
    return torch.cat([similarity(audio, chunk, aggregation)[0] for chunk in chunks])


def _scores_of_video(scores: RetrievalScores, query: int) -> Tensor:
    image = scores.embeddings.image[query : query + 1]  # (1, F, D)
    chunks, aggregation = torch.split(scores.embeddings.audio, CHUNK_CLIPS), scores.config.primary_aggregation
    return torch.cat([similarity(chunk, image, aggregation)[:, 0] for chunk in chunks])
