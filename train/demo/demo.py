"""Runs the main job from end to end on a synthetic world: videos, shards, training, scores, a report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.index_row import index_rows
from cavsync.pipeline.dataset.reader import read_clip
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import clip_key
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.segmentation_set import LIST_NAME, write_prompted
from cavsync.train.data.config import Pairing
from cavsync.train.demo.alignment import alignment_section
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.engine.run_folder import METRICS_NAME, read_lines
from cavsync.train.evaluation.heatmaps.heatmap import MapConfig
from cavsync.train.evaluation.heatmaps.task import MapTask
from cavsync.train.evaluation.retrieval.examples import example_sections
from cavsync.train.evaluation.retrieval.protocol import RetrievalScores
from cavsync.train.evaluation.retrieval.report import facts
from cavsync.train.evaluation.segmentation.protocol import SegmentationScores, score_segmentation
from cavsync.train.evaluation.segmentation.report import maps_section, methods_section, segmentation_rows
from cavsync.train.evaluation.statistics import mean_percent
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.protocol import SynchronyScores, score_synchrony
from cavsync.train.evaluation.synchrony.report import curve_section, synchrony_rows
from cavsync.train.evaluation.task import SplitTask
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig
from cavsync.train.pretrain.plots import training_curves
from cavsync.train.pretrain.presets import tiny
from cavsync.train.reporting.page import CaptionedImage, Report, Score, Section, write_report
from cavsync.train.reporting.plots import frames_over_mel

CLIPS_SHOWN = 2
# Of the tables of synchrony and segmentation, what the demo repeats.
SYNCHRONY_SHOWN = ("within a clip", "delay found")
SEGMENTATION_SHOWN = ("mAP", "prompted object first")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """One demo; a folder holds a world, and a run for each seed."""

    root: Path
    world: WorldConfig
    seed: int = 0
    num_steps: int = 1000
    control: bool = False  # trains each clip on another clip's audio, so that figures fall to near chance

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "vggsound"

    @property
    def run(self) -> Path:
        kind = "control" if self.control else "demo"
        return self.root / "runs" / f"{kind}-seed{self.seed}-{self.num_steps}steps"

    @property
    def prompted(self) -> Path:
        return self.root / "raw" / "ade20k_sound"

    @property
    def report(self) -> Path:
        return self.run / "report.html"

    def training(self) -> PretrainConfig:
        """Preset `tiny` on the demo's shards."""
        preset = tiny()
        pairing: Pairing = "other-clip" if self.control else "matched"
        data = replace(preset.data, path=str(self.dataset), pairing=pairing)
        monitor = PretrainMonitorConfig(tracker=None, every_steps=None, curves=False)
        return replace(preset, data=data, num_steps=self.num_steps, seed=self.seed, monitor=monitor)


def synchronise_world(task: SplitTask, on_clip: Callable[[int, int], None]) -> SynchronyScores:
    """Scores which audio segment belongs to which frame of the test clips."""
    return score_synchrony(task, SynchronyConfig(), on_clip)


def synchrony_summary(scores: SynchronyScores, truth: dict[str, Any]) -> list[Score]:
    """The rows of the synchrony report that the demo repeats, and one that needs the world's ground truth."""
    shown = [
        row
        for row in synchrony_rows(scores)
        if row.name.startswith(SYNCHRONY_SHOWN) and row.estimate.unit == "%"
    ]
    return [*shown, same_class_row(scores, truth)]


def same_class_row(scores: SynchronyScores, truth: dict[str, Any]) -> Score:
    """How often the audio segment that a frame retrieves holds a class that the frame shows."""
    shared = classes_shared(scores.task, truth)
    chosen = [
        np.take_along_axis(shared[clip.key], clip.within.chosen_of_frame[:, None], axis=1).mean()
        for clip in scores.clips
    ]
    chance = 100 * float(np.mean([shared[clip.key].mean() for clip in scores.clips]))
    return Score("within a clip: same class", mean_percent(np.array(chosen), chance), "frame → window")


def classes_shared(task: SplitTask, truth: dict[str, Any]) -> dict[str, np.ndarray]:
    """Key -> (F, F) bool: whether an object visible in frame f also sounds at the centre of audio segment w."""
    rows = task.dataset.index(task.data.split, ["key", "frame_pts_s"])
    turns = {clip_key(clip["id"], clip["start_s"]): clip["turns"] for clip in truth["clips"]}
    present = {
        key: sounding_at(turns[key], np.asarray(pts_s), truth["classes"]).astype(int)
        for key, pts_s in zip(rows["key"], rows["frame_pts_s"], strict=True)
    }
    return {key: audible @ audible.T > 0 for key, audible in present.items()}


def sounding_at(turns: list[dict[str, Any]], times_s: np.ndarray, classes: list[str]) -> np.ndarray:
    """(times, classes) bool: which classes sound, and are visible, at each time; turns off screen are left out."""
    present = np.zeros((len(times_s), len(classes)), bool)
    for turn in turns:
        if not turn.get("on_screen", True):
            continue
        inside = (times_s >= turn["start_s"]) & (times_s < turn["end_s"])
        present[:, classes.index(turn["class"])] |= inside
    return present


def segment_world(
    config: DemoConfig, checkpoint: LoadedCheckpoint, on_row: Callable[[int, int], None]
) -> SegmentationScores:
    """Scores heatmaps on test frames with two sounding objects or more, by both methods."""
    if not (config.prompted / LIST_NAME).exists():
        write_prompted(config.root, config.prompted)
    task = MapTask.of(checkpoint, ("denseav", "masked-view"), MapConfig(), "mean", max_missing=0.0)
    return score_segmentation(task, config.prompted, "global", on_row)


def segmentation_summary(scores: SegmentationScores) -> list[Score]:
    """The rows of the segmentation report that the demo repeats."""
    return [row for row in segmentation_rows(scores) if row.name.endswith(SEGMENTATION_SHOWN)]


def write_demo_report(
    config: DemoConfig,
    scores: RetrievalScores,
    synchrony: SynchronyScores,
    segmented: SegmentationScores,
    videos: Sequence[Section],
    rows: list[Score],
) -> Path:
    """Writes the page that the demo ends with; `videos` are its sections on search and localisation."""
    metrics = read_lines(config.run / METRICS_NAME)
    lead = (
        f"A model of {config.num_steps} training steps on {config.world.num_train} clips, scored on "
        f"{len(scores.embeddings.keys)} clips that it never saw."
    )
    curves = Section(
        "Training",
        f"Loss parts by step, {len(metrics)} logged steps: thin lines are single batches, thick ones their running mean. "
        "The reconstruction is part of the method; this world does not show that it helps retrieval.",
        images=training_curves(metrics),
    )
    report = Report(
        title="cavsync demo"
        + (" (control: every clip trained on another clip's audio)" if config.control else ""),
        lead=lead,
        scores=rows,
        sections=[
            curves,
            aligned_section(scores),
            alignment_section(),
            curve_section(synchrony),
            *example_sections(scores),
            methods_section(segmented),
            maps_section(segmented),
            *videos,
        ],
        facts=[*facts(scores), ("seed", str(config.seed)), ("steps", str(config.num_steps))],
    )
    write_report(report, config.report)
    return config.report


def aligned_section(scores: RetrievalScores) -> Section:
    """Frames over their mel, with the windows of two frames marked as the model gets them."""
    dataset = scores.task.dataset
    rows = index_rows(dataset.index_table(scores.task.data.split).slice(0, CLIPS_SHOWN))
    window_rows = scores.model.audio_rows
    images = []
    for row in rows:
        clip = read_clip(dataset.paths, row)
        pts_s = row.clip.frame_pts_s if row.clip else ()
        starts = window_starts(pts_s, len(clip.mel), window_rows, scores.task.data.frame_alignment)
        images.append(CaptionedImage(frames_over_mel(clip, pts_s, starts, window_rows), row.key))
    text = (
        "Each frame over the time at which it was on screen (dotted). The framed parts of the log-mel are the "
        "segments that belong to the two marked frames: this pair is what the model is given."
    )
    return Section("Frames and their audio segments", text, images=images)
