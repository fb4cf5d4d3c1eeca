"""What `cavsync data score` finds of known faults in a dataset, and what training without them brings.

    python -m benchmarks.curation DATASET [--steps N] [--seeds N] [--folder DIR]

DATASET is one with splits train and test, such as data/vggsound of a `cavsync demo`. In a copy of it 30 % of the training clips get
another clip's audio and 10 % their own, moved by 0.5 to 2 s. A model is trained on all of them and scores them: it has learned from
the faults that it is to find. Then models of as many steps are trained on the clips that the scores keep, and on those without
a fault. Every model is scored on the test clips, which have none.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import typer

from benchmarks.support import results
from benchmarks.support.program import cavsync
from cavsync.pipeline.curation.score_file import write_scores
from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.reader import Dataset, read_clip
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.pipeline.dataset.writer import ShardWriter

FOREIGN, MOVED = 0.3, 0.1
SHIFTS_S = (0.5, 2.0)
# Fixed before the first run. A delay counts where most of what the frames could gain is gained at one offset.
IS_FOREIGN = "correspondence < 0.9"
IS_MOVED = "correspondence >= 0.9 and abs(delay_s) > 0.35 and delay_agreement >= 0.5"
KEEP = f"not ({IS_FOREIGN}) and not ({IS_MOVED})"
ARMS = ("all clips", "clips that the scores keep", "clips without a fault")


def main(dataset: Path, steps: int = 500, seeds: int = 2, folder: Path = Path("build/curation")) -> None:
    found = [measure(dataset, folder / f"seed{seed}", steps, seed) for seed in range(seeds)]
    rows = [results.Row(what=name, values=[one[name] for one in found], unit="%") for name in found[0]]
    results.publish("curation", f"Known faults, {seeds} seeds, {steps} steps", rows)


def measure(dataset: Path, folder: Path, steps: int, seed: int) -> Mapping[str, float]:
    """Precision and recall of finding each fault, and R@1 on the test clips of each arm, in %."""
    faults = write_faulty(dataset, folder / "data", seed)
    truth = folder / "truth.parquet"
    write_scores(truth, [{"key": key, "fault": fault} for key, fault in faults.items()], {})
    scores = folder / "scores.parquet"
    chosen = {
        ARMS[0]: [],
        ARMS[1]: ["--set", f"data.scores={scores}", "--set", f"data.keep={KEEP}"],
        ARMS[2]: ["--set", f"data.scores={truth}", "--set", "data.keep=fault = 'none'"],
    }
    recalls = {}
    for arm, options in chosen.items():
        run = folder / "runs" / arm.replace(" ", "-")
        if not (run / "model.safetensors").is_file():
            shutil.rmtree(run, ignore_errors=True)
            given = ("--data", folder / "data", "--run", run, "--steps", str(steps), "--set", f"seed={seed}")
            cavsync("train", "pretrain", "--preset", "tiny", *given, *options)
        if arm == ARMS[0] and not scores.is_file():
            cavsync(
                "data", "score", folder / "data", "--checkpoint", run, "--split", "train", "--out", scores
            )
        recalls[f"R@1 of {arm}"] = recall(run)
    return {**detection(scores, faults), **recalls}


def write_faulty(dataset: Path, out: Path, seed: int) -> dict[str, str]:
    """A copy of the dataset with faults; returns key -> fault of each training clip, "none" where it has none."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(dataset, out)
    source = Dataset.open(dataset)
    rows = index_rows(source.index_table("train"))
    random = np.random.default_rng(seed)
    faults = random.choice(["foreign", "moved", "none"], len(rows), p=[FOREIGN, MOVED, 1 - FOREIGN - MOVED])
    foreign = np.flatnonzero(faults == "foreign")
    donors = dict(zip(foreign.tolist(), np.roll(foreign, 1).tolist(), strict=True))
    for shard in sorted({row.shard for row in rows}):
        with ShardWriter(replace(source.paths, root=out), shard) as writer:
            for number, row in enumerate(rows):
                if row.shard == shard:
                    content = read_clip(source.paths, row)
                    mel = read_clip(source.paths, rows[donors.get(number, number)]).mel
                    if faults[number] == "moved":
                        mel = np.roll(mel, random_shift(random), axis=0)
                    plain = replace(row, members=None, kept=None)  # kept audio would be the clip's own
                    writer.add(plain, content.frames, mel[: len(content.mel)])
            writer.finish()
    return {row.key: str(fault) for row, fault in zip(rows, faults, strict=True)}


def random_shift(random: np.random.Generator) -> int:
    """Rows of the log-mel, either way."""
    return int(random.choice([-1, 1]) * random.uniform(*SHIFTS_S) * MEL_ROWS_PER_S)


def detection(scores: Path, faults: Mapping[str, str]) -> dict[str, float]:
    """Precision and recall, in %, of the conditions above."""
    found = pd.read_parquet(scores).set_index("key")
    true = pd.Series(faults).reindex(found.index)
    marked = {
        "foreign": found.eval(IS_FOREIGN),
        "moved": found.eval(IS_MOVED),
    }
    figures = {}
    for fault, is_marked in marked.items():
        hits = (is_marked & (true == fault)).sum()
        figures[f"{fault} audio: precision"] = 100 * hits / max(1, is_marked.sum())
        figures[f"{fault} audio: recall"] = 100 * hits / (true == fault).sum()
    return {name: float(value) for name, value in figures.items()}


def recall(run: Path) -> float:
    """R@1 of clips among the test clips, both directions' mean, in %."""
    out = run / "retrieval"
    text = cavsync("eval", "retrieval", "--checkpoint", run, "--split", "test", "--out", out, "--json")
    scores = json.loads(text)["results"]["aggregations"]["diagonal-mean"]
    ways = (scores[way]["recalls"]["1"]["value"] for way in ("audio_to_video", "video_to_audio"))
    return float(np.mean([*ways]))


if __name__ == "__main__":
    typer.run(main)
