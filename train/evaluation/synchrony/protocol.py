"""`cavsync eval synchrony` on a split: each clip's frames with its own audio, earlier and later, and with another's."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.embedding.sliding import AVClip, WindowEmbeddings, WindowEncoder
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.synchrony.clip import ClipSynchrony, WithinClip, match_within, measure_clip
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.dataset import SplitClips
from cavsync.train.evaluation.synchrony.metrics import SynchronyFigures, summarise
from cavsync.train.evaluation.synchrony.perturbed.clip_pairs import score_clip
from cavsync.train.evaluation.synchrony.perturbed.pairs import PairwiseFigures, ScoredPair, summarise_pairs
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.reporting.coverage import Coverage, Unusable

OnClip = Callable[[int, int], None]


@dataclass(frozen=True)
class SynchronyScores:
    task: SplitTask
    config: SynchronyConfig
    model: ModelConfig
    coverage: Coverage
    clips: list[ClipSynchrony]
    figures: SynchronyFigures
    pairwise: PairwiseFigures | None  # None unless the configuration asks for it


def score_synchrony(
    task: SplitTask,
    config: SynchronyConfig,
    on_clip: OnClip = lambda done, total: None,
) -> SynchronyScores:
    """Slides over every usable clip of the task's split; raises CavsyncError on what the user can fix."""
    scoring = _Scoring(config, config.window_encoder(task.checkpoint, task.data))
    model = task.checkpoint.model.config
    clips = SplitClips(task.dataset, task.data, model.image_size)
    for number, clip in enumerate(clips.read(), 1):
        scoring.add(clip)
        on_clip(number, len(clips))
    coverage = replace(clips.coverage, unusable=(*clips.coverage.unusable, *scoring.unusable))
    if coverage.num_scored < 2:
        raise EvaluationError(
            f"{task.data.named}: {coverage.sentence}, and two are needed, because each clip is "
            "also given another one's audio. For a single file there is --video FILE."
        )
    measured = scoring.finish()
    figures = summarise(measured, config)
    pairwise = summarise_pairs(scoring.pairs) if config.pairwise else None
    return SynchronyScores(task, config, model, coverage, measured, figures, pairwise)


@dataclass
class _Scoring:
    """One pass over the clips; each is also given the audio of the one before it, and the first that of the last."""

    config: SynchronyConfig
    window_encoder: WindowEncoder
    unusable: list[Unusable] = field(default_factory=list)
    pairs: list[ScoredPair] = field(default_factory=list)
    _clips: list[ClipSynchrony] = field(default_factory=list)
    _first: tuple[WindowEmbeddings, WithinClip] | None = None
    _previous: WindowEmbeddings | None = None

    def add(self, clip: AVClip) -> None:
        embeddings = self.window_encoder.encode(clip)
        within = match_within(embeddings)
        if within is None:
            self.unusable.append(_one_window(embeddings, self.window_encoder.window.rows))
            return
        if self.config.pairwise:
            self.pairs += score_clip(self.window_encoder, clip, embeddings, self.config.seed)
        if self._previous is None:
            self._first = embeddings, within
        else:
            self._clips.append(measure_clip(embeddings, within, self._previous, self.config))
        self._previous = embeddings

    def finish(self) -> list[ClipSynchrony]:
        assert self._first is not None
        assert self._previous is not None
        return [measure_clip(*self._first, self._previous, self.config), *self._clips]


def _one_window(embeddings: WindowEmbeddings, window_rows: int) -> Unusable:
    reason = (
        "one window or one frame for the whole clip, nothing to choose from "
        f"(the model encodes {window_rows / MEL_ROWS_PER_S:g} s of audio at once)"
    )
    return Unusable(embeddings.name, "one_window", reason)
