"""What `cavsync data score` finds of known faults in videos, and what training without them brings.

    python -m benchmarks.curation DEMO [--steps N] [--seeds N] [--folder DIR]

DEMO is the folder of a `cavsync demo`. Of the training videos of its VGGSound 30 % get another one's audio, 10 % their own moved by 0.5 to
2 s, and 10 % a picture that stands still; all are prepared again. A model is trained on all of them and scores them: it has learned from
the faults that it is to find. Then models of as many steps are trained on the clips that are kept, and on those without
a fault. Every model is scored on the test clips, which have none.
"""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import pandas as pd
import typer

from benchmarks.support import results
from benchmarks.support.program import cavsync
from cavsync.pipeline.curation.score_file import write_scores
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.dataset.schema import clip_key
from cavsync.pipeline.media.backends.ffmpeg_program import ffmpeg_path

SHARES = {"foreign": 0.3, "moved": 0.1, "still": 0.1, "none": 0.5}
SHIFTS_S = (0.5, 2.0)
# Fixed before the first run. A delay counts where most of what the frames could gain is gained at one offset. A clip without scores,
# which a still one is, meets no condition over them.
CONDITIONS = {
    "foreign": "correspondence < 0.9",
    "moved": "correspondence >= 0.9 and abs(delay_s) > 0.35 and delay_agreement >= 0.5",
    "still": "still",
}
KEEP = " and ".join(f"not ({condition})" for condition in CONDITIONS.values())
ARMS = ("all clips", "clips that are kept", "clips without a fault")


def main(demo: Path, steps: int = 400, seeds: int = 3, folder: Path = Path("build/curation")) -> None:
    found = [measure(demo, folder / f"seed{seed}", steps, seed) for seed in range(seeds)]
    rows = [results.Row(what=name, values=[one[name] for one in found], unit="%") for name in found[0]]
    results.publish("curation", f"Known faults, {seeds} seeds, {steps} steps", rows)


def measure(demo: Path, folder: Path, steps: int, seed: int) -> Mapping[str, float]:
    """Precision and recall of finding each fault, and R@1 on the test clips of each arm, in %."""
    faults = write_faulty(demo / "raw/vggsound", folder / "raw/vggsound", seed)
    data = folder / "data/vggsound"
    cavsync("prepare", "vggsound", "--root", folder, "--frame-size", "128", "--shard-size", "32")
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
            given = ("--data", data, "--run", run, "--steps", str(steps), "--set", f"seed={seed}")
            cavsync("train", "pretrain", "--preset", "tiny", *given, *options)
        if arm == ARMS[0] and not scores.is_file():
            cavsync("data", "score", data, "--checkpoint", run, "--split", "train", "--out", scores)
        recalls[f"R@1 of {arm}"] = recall(run)
    return {**detection(data, scores, faults), **recalls}


def write_faulty(source: Path, out: Path, seed: int) -> dict[str, str]:
    """VGGSound's list and videos with faults; returns key -> fault of each training clip, "none" where it has none."""
    (out / "videos").mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "vggsound.csv", out)
    with (source / "vggsound.csv").open() as lines:
        listed = {(clip_id, int(start_s)): split for clip_id, start_s, _, split in csv.reader(lines)}
    train = [clip for clip, split in listed.items() if split == "train"]
    random = np.random.default_rng(seed)
    drawn = random.choice([*SHARES], len(train), p=[*SHARES.values()]).tolist()
    faults = dict(zip(train, drawn, strict=True))
    foreign = [clip for clip in train if faults[clip] == "foreign"]
    donors = dict(zip(foreign, foreign[-1:] + foreign[:-1], strict=True))
    for clip in listed:
        video, donor, made = (
            video_of(source, clip),
            video_of(source, donors.get(clip, clip)),
            video_of(out, clip),
        )
        shift_s = random.uniform(*SHIFTS_S)
        if not made.exists():
            write_video(faults.get(clip, "none"), video, donor, shift_s, made)
    return {clip_key(*clip): fault for clip, fault in faults.items()}


def video_of(folder: Path, clip: tuple[str, int]) -> Path:
    return folder / "videos" / f"{clip[0]}_{clip[1]:06d}.mp4"


def write_video(fault: str, video: Path, donor: Path, shift_s: float, out: Path) -> None:
    """The video with the donor's audio, its own audio `shift_s` earlier and its beginning behind its end, one frame, or as it is."""
    picture, audio = ffmpeg.input(str(video)).video, ffmpeg.input(str(donor)).audio
    coded: dict[str, Any] = {"vcodec": "copy", "acodec": "copy"}
    if fault == "moved":
        parts = [audio.filter("atrim", start=shift_s), audio.filter("atrim", end=shift_s)]
        moved = [part.filter("asetpts", "PTS-STARTPTS") for part in parts]
        audio, coded["acodec"] = ffmpeg.concat(*moved, v=0, a=1), "aac"
    if fault == "still":
        # The first frame for 10 s, coded again as every frame.
        picture = picture.filter("trim", end_frame=1).filter("tpad", stop_mode="clone", stop_duration=10)
        coded["vcodec"] = "libx264"
    written = ffmpeg.output(picture, audio, str(out.with_suffix(".part.mp4")), **coded)
    written.run(cmd=ffmpeg_path(), quiet=True, overwrite_output=True)
    out.with_suffix(".part.mp4").rename(out)


def detection(data: Path, scores: Path, faults: Mapping[str, str]) -> dict[str, float]:
    """Precision and recall, in %, of the conditions above."""
    index = Dataset.open(data).index("train", ["key", "still"]).set_index("key")
    found = index.join(pd.read_parquet(scores).set_index("key"))
    true = pd.Series(faults).reindex(found.index)
    figures: dict[str, float] = {}
    for fault, condition in CONDITIONS.items():
        marked = found.eval(condition)
        hits = (marked & (true == fault)).sum()
        figures[f"{fault}: precision"] = float(100 * hits / max(1, marked.sum()))
        figures[f"{fault}: recall"] = float(100 * hits / (true == fault).sum())
    return figures


def recall(run: Path) -> float:
    """R@1 of clips among the test clips, both directions' mean, in %."""
    out = run / "retrieval"
    text = cavsync("eval", "retrieval", "--checkpoint", run, "--split", "test", "--out", out, "--json")
    scores = json.loads(text)["results"]["aggregations"]["diagonal-mean"]
    ways = (scores[way]["recalls"]["1"]["value"] for way in ("audio_to_video", "video_to_audio"))
    return float(np.mean([*ways]))


if __name__ == "__main__":
    typer.run(main)
