"""How long it takes to rank a gallery in both directions, against comparing clip by clip, and as galleries grow.

    python -m benchmarks.score [--largest N] [--rounds N]

Embeddings are random: 16 pairs a clip, width 768, as float16, in which a command holds them. Upstream's loop is timed on
a few clips, for one direction; for a gallery it takes as many times longer as there are more pairs of clips, which the
table extrapolates.
"""

from functools import partial

import torch
import typer
from torch import Tensor

from benchmarks.support import results, timing, upstream
from cavsync.train.evaluation.retrieval.ranking import rank

NUM_PAIRS, WIDTH = 16, 768
GALLERY, LOOPED, SMALLEST = 1_545, 60, 1_250
AGGREGATION = "diagonal-mean"
OURS, LOOP = "cavsync, both directions", f"upstream's loop, {LOOPED} clips, one direction"


def main(largest: int = 20_000, rounds: int = 5) -> None:
    audio, image = embeddings(GALLERY)
    few = [vectors[:LOOPED].float() for vectors in (audio, image)]
    actions = {OURS: partial(rank, audio, image, AGGREGATION), LOOP: partial(upstream.score_pairwise, *few)}
    costs = timing.in_turns(actions, rounds)
    loop_s = [seconds * (GALLERY / LOOPED) ** 2 for seconds in costs[LOOP].wall_s]
    compared = [
        results.Row(what=f"{GALLERY:,} clips: cavsync", values=costs[OURS].wall_s, unit="s", aim="< 1 s"),
        results.Row(
            what=f"{GALLERY:,} clips: upstream, a direction, extrapolated",
            values=loop_s,
            unit="s",
            ratio=timing.ratio(loop_s, costs[OURS].wall_s),
            to="cavsync",
        ),
    ]
    results.publish(
        "score", f"Ranking clips of {NUM_PAIRS} pairs, {AGGREGATION}", [*compared, *growth(largest)]
    )


def growth(largest: int) -> list[results.Row]:
    """Each size in a process of its own; twice the clips are four times the pairs of clips."""
    rows: list[results.Row] = []
    size, before = SMALLEST, None
    while size <= largest:
        cost = timing.in_own_process(partial(rank_random, size))
        ratio = cost.wall_s / before.wall_s if before else None
        aim = "x 4, < 2,048 MiB" if ratio else ""
        what = f"{size:,} clips, with making them up"
        rows.append(
            results.Row(
                what=what,
                values=[cost.wall_s],
                unit="s",
                ratio=ratio,
                to="half as many",
                peak_mib=cost.peak_mib,
                aim=aim,
            )
        )
        size, before = 2 * size, cost
    return rows


def rank_random(num_clips: int) -> None:
    rank(*embeddings(num_clips), AGGREGATION)


def embeddings(num_clips: int) -> tuple[Tensor, Tensor]:
    """(clips, pairs, width) of audio and of frame embeddings, clip by clip, so that no second copy exists."""
    generator = torch.Generator().manual_seed(0)
    audio, image = (torch.empty(num_clips, NUM_PAIRS, WIDTH, dtype=torch.float16) for _ in "ai")
    for vectors in (audio, image):
        for clip in vectors:
            clip.copy_(torch.randn(NUM_PAIRS, WIDTH, generator=generator))
    return audio, image


if __name__ == "__main__":
    typer.run(main)
