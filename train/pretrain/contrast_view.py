"""The patches that the contrastive loss sees where it has a view of its own, and the teacher's tokens beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cavsync.model.masking import draw_mask, mask_lines, sampling_scores
from cavsync.model.output import Guidance
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.teacher import Teacher


@dataclass(frozen=True)
class View:
    """What the loss of some clips needs besides their inputs; nothing without a view of its own and without a teacher."""

    kept_audio: Tensor | None = None
    """(clips, kept) indices of the patches that the contrast sees."""
    kept_image: Tensor | None = None
    token_audio: Tensor | None = None
    """(clips, dim): the teacher's token of the whole inputs, for distillation."""
    token_image: Tensor | None = None


class ContrastViews:
    """The views of a batch; they depend neither on its micro-batches nor on the number of ranks."""

    def __init__(self, config: PretrainConfig, teacher: Teacher | None, ranks: Ranks) -> None:
        self.config, self.teacher, self.ranks = config, teacher, ranks

    @torch.no_grad()
    def of(
        self, parts: Sequence[tuple[Tensor, Tensor]], noise_audio: Tensor | None, noise_image: Tensor | None
    ) -> list[View]:
        """The view of each micro-batch of this rank.

        `parts` are the log-mels (clips, time, mels) and uint8 images (clips, height, width, 3) of each; the noise is
        (clips of all parts, patches), uniform in [0, 1), for choices that draw.
        """
        audio, image = (None, None) if self.teacher is None else self.teacher.guide(parts)
        tokens = [None if one is None else one.token for one in (audio, image)]
        kept: list[Tensor | None] = [None, None]
        if self.config.contrast_view.own:
            kept = [self._kept_audio(audio, noise_audio), self._kept_image(image, noise_image)]
        columns = [_chunks(rows, len(parts)) for rows in (*kept, *tokens)]
        return [View(*row) for row in zip(*columns, strict=True)]

    def _kept_audio(self, guidance: Guidance | None, noise: Tensor | None) -> Tensor:
        model, ratio = self.config.model, self.config.contrast_view.mask_ratio_audio
        scores = self._scores(guidance, noise)
        if not self.config.needs_priority:
            scores = mask_lines(scores, model.audio_grid, ratio, model.audio_mask_mode)
        return draw_mask(scores, ratio).kept

    def _kept_image(self, guidance: Guidance | None, noise: Tensor | None) -> Tensor:
        return draw_mask(self._scores(guidance, noise), self.config.contrast_view.mask_ratio_image).kept

    def _scores(self, guidance: Guidance | None, noise: Tensor | None) -> Tensor:
        """(clips, patches): the patches with the least are kept."""
        choice = self.config.contrast_view.choice
        if choice == "random":
            assert noise is not None
            return noise
        assert guidance is not None
        assert guidance.priority is not None
        if choice == "sampled":
            assert noise is not None
            return sampling_scores(guidance.priority, noise)
        if choice == "bottom":
            return guidance.priority
        return -(self._of_next_clip(guidance.priority) if choice == "other-clip" else guidance.priority)

    def _of_next_clip(self, rows: Tensor) -> Tensor:
        """(clips, patches): for each clip the row of the next one in the batch of all ranks, for the last the first's."""
        first = self.ranks.rank * len(rows)
        return self.ranks.gather(rows).roll(-1, dims=0)[first : first + len(rows)]


def _chunks(rows: Tensor | None, count: int) -> Sequence[Tensor | None]:
    return [None] * count if rows is None else rows.chunk(count)
