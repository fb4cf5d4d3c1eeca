"""How far from chance controls retrieve, with p-values: runs that were trained on another clip's audio, one a seed.

    python -m benchmarks.control RUN [RUN ...] [--draws N] [--seed N]

Each run is scored on the clips of its test split. Three tests ask whether it has more right answers at rank 1 than

* chance: an exact binomial test of each direction, as if its queries were independent;
* other pairings: which audio belongs to which frames is permuted among the clips, the same for all runs, both directions
  together. It knows that the queries of a run depend on each other, and that the runs share their clips;
* accidents: the embeddings of audio are rotated at random, each run by its own rotation. What audio and frames have in common
  is destroyed, and when they change is not: right answers that are left are those that timing gives by accident. Frames that
  find their own segment within a clip, and segments their frame, are compared with these too.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch.nn.functional import normalize

from benchmarks.support import results
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.evaluation.intervals import student
from cavsync.train.evaluation.retrieval.gallery_embeddings import embed_gallery
from cavsync.train.evaluation.retrieval.protocol import RetrievalConfig
from cavsync.train.evaluation.retrieval.similarity import similarity
from cavsync.train.evaluation.statistics import TIE_TOLERANCE
from cavsync.train.evaluation.task import SplitTask

AGGREGATION = "diagonal-mean"


@dataclass(frozen=True)
class ControlRun:
    """The answers of one run: which of N clips is first for the audio, and for the frames, of each clip."""

    name: str
    audio: torch.Tensor  # (N, F, D)
    image: torch.Tensor  # (N, F, D)

    @classmethod
    def load(cls, folder: Path) -> "ControlRun":
        checkpoint = LoadedCheckpoint.load(folder, "cpu")
        task = SplitTask.of(checkpoint, None, "test")
        found = embed_gallery(task, RetrievalConfig(), lambda done, total: None).embeddings
        return cls(folder.name, found.audio.float(), found.image.float())

    @property
    def num_clips(self) -> int:
        return len(self.audio)

    def firsts(self, rotation: torch.Tensor | None = None) -> np.ndarray:
        """(2, N): the clip whose frames are first for each audio, and the clip whose audio is first for each clip's frames.

        `rotation` (D, D) turns the audio before. -1 where two clips are first.
        """
        scores = similarity(self.turned(rotation), self.image, AGGREGATION)
        return np.stack([first_of_rows(scores), first_of_rows(scores.T)])

    def within_clips(self, rotation: torch.Tensor | None = None) -> float:
        """How often, in %, a frame is most similar to its own segment among those of its clip, or a segment to its own frame."""
        audio, image = normalize(self.turned(rotation), dim=-1), normalize(self.image, dim=-1)
        scores = image @ audio.transpose(1, 2)  # (N, F, F)
        own = torch.arange(scores.shape[1])
        return 50 * float(sum((scores.argmax(dim=side) == own).float().mean() for side in (1, 2)))

    def turned(self, rotation: torch.Tensor | None) -> torch.Tensor:
        """(N, F, D) embeddings of audio, after a (D, D) rotation."""
        return self.audio if rotation is None else self.audio @ rotation


def first_of_rows(scores: torch.Tensor) -> np.ndarray:
    """(N,) columns of the greatest score of each row; -1 where it is there twice."""
    greatest, columns = scores.max(dim=1)
    is_tied = (scores >= greatest[:, None] - TIE_TOLERANCE).sum(dim=1) > 1
    return columns.masked_fill(is_tied, -1).numpy()


def right_answers(firsts: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """(2,) queries of each direction whose first clip is the partner: audio i belongs to the frames of `partners[i]`.

    `firsts` is (2, N), `partners` (N,) a permutation.
    """
    by_frames = np.empty_like(partners)
    by_frames[partners] = np.arange(len(partners))
    return np.array([(firsts[0] == partners).sum(), (firsts[1] == by_frames).sum()])


def p_of(observed: float, drawn: np.ndarray) -> float:
    """Of so many right answers or more, from (draws,) numbers of them where there is nothing to find."""
    return float((1 + (drawn >= observed).sum()) / (1 + len(drawn)))


def permuted(runs: list[np.ndarray], draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws, runs) right answers of both directions where clips are paired at random, all runs alike.

    `runs` are the firsts of each, (2, N).
    """
    pairings = (random.permutation(runs[0].shape[1]) for _ in range(draws))
    return np.array([[right_answers(firsts, one).sum() for firsts in runs] for one in pairings])


def rotated(run: ControlRun, draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws, 2): right answers of both directions, and % within clips, after random rotations of the audio's embeddings."""
    own, found = np.arange(run.num_clips), []
    for one in stats.ortho_group(run.audio.shape[-1], seed=random).rvs(draws):
        rotation = torch.from_numpy(one).float()
        found.append((right_answers(run.firsts(rotation), own).sum(), run.within_clips(rotation)))
    return np.array(found)


@dataclass(frozen=True)
class ControlRow:
    """A run, or all of them: right answers at rank 1, and how many there are where there is nothing to find."""

    name: str
    num_clips: int
    queries: int
    """Of each direction."""
    found: np.ndarray
    """(2,): audio to video, video to audio."""
    pairings: np.ndarray
    """(draws,), both directions together."""
    rotations: np.ndarray
    """(draws,), both directions together."""
    within: float
    """In %, frames and segments of a clip that find each other."""
    within_rotations: np.ndarray
    """(draws,), in %."""

    def figures(self) -> dict[str, float]:
        chance = 1 / self.num_clips
        exact = [stats.binomtest(int(one), self.queries, chance, "greater").pvalue for one in self.found]
        percent, total = 100 / self.queries, self.found.sum()
        return {
            "audio to video R@1, %": percent * self.found[0],
            "p of chance, audio to video": exact[0],
            "video to audio R@1, %": percent * self.found[1],
            "p of chance, video to audio": exact[1],
            "both, p of other pairings": p_of(total, self.pairings),
            "both, by accident, %": percent * float(self.rotations.mean()) / 2,
            "both, p of accidents": p_of(total, self.rotations),
            "within a clip, %": self.within,
            "within a clip, by accident, %": float(self.within_rotations.mean()),
            "within a clip, p of accidents": p_of(self.within, self.within_rotations),
        }


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of controls, one a seed.")],
    draws: int = 300,
    seed: int = 0,
) -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(seed)
    controls = [ControlRun.load(folder) for folder in runs]
    firsts = [run.firsts() for run in controls]
    found = np.array([right_answers(one, np.arange(one.shape[1])) for one in firsts])  # (runs, 2)
    pairings = permuted(firsts, 100 * draws, random)  # (100 draws, runs)
    turned = np.stack([rotated(run, draws, random) for run in controls], axis=1)  # (draws, runs, 2)
    rotations, within_rotations = turned[..., 0], turned[..., 1]
    within = np.array([run.within_clips() for run in controls])
    rows = [
        ControlRow(
            run.name,
            run.num_clips,
            run.num_clips,
            found[one],
            pairings[:, one],
            rotations[:, one],
            within[one],
            within_rotations[:, one],
        )
        for one, run in enumerate(controls)
    ]
    num_clips = controls[0].num_clips
    together = found.sum(axis=0), pairings.sum(axis=1), rotations.sum(axis=1)
    means = within.mean(), within_rotations.mean(axis=1)
    rows.append(ControlRow("together", num_clips, len(controls) * num_clips, *together, *means))
    publish([(one.name, one.figures()) for one in rows], found / num_clips, draws, seed)


def publish(rows: list[tuple[str, dict[str, float]]], recalls: np.ndarray, draws: int, seed: int) -> None:
    """Prints the table and writes it; `recalls` are (runs, 2) fractions."""
    table = Table(title="Controls at rank 1", title_justify="left")
    table.add_column("")
    for name, _ in rows:
        table.add_column(name, justify="right")
    for figure in rows[0][1]:
        table.add_row(figure, *(f"{figures[figure]:.2g}" for _, figures in rows))
    note = f"{100 * draws} pairings, {draws} rotations, seed {seed}"
    if interval := student(100 * recalls.mean(axis=1)):
        low, high = interval
        note = f"R@1, mean over runs: {100 * recalls.mean():.2f} % (95 % t interval {low:.2f} to {high:.2f}); {note}"
    Console(width=results.WIDTH).print(table, note, sep="\n", highlight=False)
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    content = {"rows": dict(rows), "note": note}
    (results.FOLDER / "control.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    typer.run(main)
