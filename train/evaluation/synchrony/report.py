"""The report on the synchrony of a split: matching inside clips, delays and the detection of moved audio."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.evaluation.synchrony.clip import ClipSynchrony
from cavsync.train.evaluation.synchrony.metrics import MatchingFigures, ShiftDetection, SynchronyFigures
from cavsync.train.evaluation.synchrony.offsets import Delay
from cavsync.train.evaluation.synchrony.perturbed.report import (
    MADE_HERE,
    pairwise_rows,
    pairwise_sections,
)
from cavsync.train.evaluation.synchrony.plots import (
    clip_curves,
    delay_histogram,
    detection_curve,
    mean_curve,
)
from cavsync.train.evaluation.synchrony.protocol import SynchronyScores
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import CaptionedImage, Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult

CLIPS_SHOWN = 8


def synchrony_result(scores: SynchronyScores) -> EvaluationResult:
    data = Path(scores.task.data.one_path)
    return EvaluationResult(
        evaluation="synchrony",
        title="Synchrony",
        lead=f"Whether audio is matched to the instant of its frame, on the split {scores.task.data.split!r}: "
        f"{scores.coverage.sentence}.",
        scores=synchrony_rows(scores),
        sections=[
            curve_section(scores),
            _delay_section(scores),
            _detection_section(scores.figures),
            *(pairwise_sections(scores.pairwise, MADE_HERE) if scores.pairwise else []),
            _clips_section(scores),
        ],
        facts=facts(scores),
        coverage=scores.coverage,
        items=[clip.key for clip in scores.clips],
        weights=scores.task.weights,
        data=data,
        defined_by=data / SUMMARY_NAME,
        config={**asdict(scores.config), "window_rows": scores.model.audio_rows, **asdict(scores.task.data)},
        results={
            **vars(scores.figures),
            "pairwise": scores.pairwise,
            "clips": [_clip_record(clip) for clip in scores.clips],
        },
    )


def synchrony_rows(scores: SynchronyScores) -> list[Score]:
    """The table: matching inside clips, delays, and the detection of moved audio and of another clip's."""
    figures, delay = scores.figures, scores.figures.delay
    return [
        *_matching_rows("frame → window", figures.frame_to_window),
        *_matching_rows("window → frame", figures.window_to_frame),
        Score(f"delay found within {scores.config.tolerance_s:g} s", delay.within),
        Score("delay: error", delay.median_error_s, "median", digits=2),
        Score(
            "delay reliable",
            delay.reliable.with_chance(delay.reliable_other.value),
            "chance: another clip's audio",
        ),
        *(_detection_row(f"moved by {shift_s:g} s", one) for shift_s, one in _known(figures).items()),
        *([_detection_row("another clip's audio", figures.other_audio)] if figures.other_audio else []),
        *(pairwise_rows(scores.pairwise) if scores.pairwise else []),
    ]


def curve_section(scores: SynchronyScores) -> Section:
    window_s = scores.model.audio_rows / MEL_ROWS_PER_S
    text = (
        "Every frame with the windows of audio around it. At 1 s each frame is paired with the window one second after its own, as "
        "if the audio were a second late. A model that is sensitive to timing has its peak at 0, and falls to the grey line, "
        f"which is its similarity with another clip's audio. Windows are {window_s:g} s long, so the peak cannot be much "
        "narrower. The curve ends where more than half of the frames have no window left."
    )
    plot = CaptionedImage(mean_curve(scores.figures.curve), f"mean over {len(scores.clips)} clips")
    return Section("Similarity by offset", text, images=[plot])


def _delay_section(scores: SynchronyScores) -> Section:
    delay, tolerance = scores.figures.delay, f"within {scores.config.tolerance_s:g} s"
    own, other = (
        [one.delay.delay_s for one in curves if one.delay]
        for curves in ([clip.own for clip in scores.clips], [clip.other for clip in scores.clips])
    )
    text = (
        "The offset at which the curve of each single clip has its peak; the right one is 0. Agreement says how far the frames "
        "have the same delay: of the similarity that each frame gains at the offset that is best for it, the fraction that all "
        "of them gain together at one. Below the threshold a delay is not reliable. The column on another clip's audio shows "
        "how often a delay would be claimed falsely."
    )
    rows = [
        [tolerance, *_cells(delay.within, delay.within_other)],
        ["reliable", *_cells(delay.reliable, delay.reliable_other)],
    ]
    if delay.reliable_within:
        rows.append([f"of the reliable ones, {tolerance}", *_cells(delay.reliable_within), ""])
    rows.append(["median delay", f"{delay.bias_s:+.3f} s", ""])
    table = Table(["delay", "own audio", "another clip's audio"], rows)
    plots = [CaptionedImage(delay_histogram(own, other, scores.config.max_offset_s), "estimated delays")]
    return Section("Delay of the audio", text, images=plots, tables=[table])


def _detection_section(figures: SynchronyFigures) -> Section:
    known = _known(figures)
    text = (
        "The score of a clip is the mean similarity of its frames with their windows. AUC: one threshold for all clips, the "
        "probability that a clip in step scores above a clip whose audio was moved (50 is chance, ties count half). Each clip by "
        "itself: how often a clip scores higher in step than moved (a tie is a miss). Both scores are over the same frames, "
        "those that have both windows; audio was moved to both sides."
    )
    rows = [[f"{shift_s:g} s", *_detection_cells(one)] for shift_s, one in known.items()]
    if figures.other_audio:
        rows.append(["another clip's audio", *_detection_cells(figures.other_audio)])
    table = Table(["audio moved by", "clips", "AUC", "each clip by itself"], rows)
    plots = [CaptionedImage(detection_curve(known), "bars: 95 % intervals")] if known else []
    return Section("Detection of moved audio", text, images=plots, tables=[table])


def _clips_section(scores: SynchronyScores) -> Section:
    drawn = np.random.default_rng(scores.config.seed).permutation(len(scores.clips))[:CLIPS_SHOWN]
    clips = [scores.clips[number] for number in sorted(drawn.tolist())]
    text = (
        "Drawn at random, with the estimated delay. Similarity by offset in seconds, on one scale; red: own audio; grey: "
        "another clip's."
    )
    return Section("Single clips", text, images=clip_curves(clips, scores.config.offsets_s))


def facts(scores: SynchronyScores) -> list[tuple[str, str]]:
    config, data = scores.config, scores.task.data
    return [
        ("weights", str(scores.task.weights)),
        ("dataset", f"{data.path}, split {data.split}"),
        ("clips", scores.coverage.sentence),
        ("alignment", data.frame_alignment),
        ("windows", f"{scores.model.audio_rows} rows, every {config.step_s:g} s and at each frame"),
        ("offsets", f"up to {config.max_offset_s:g} s either way"),
    ]


def _clip_record(clip: ClipSynchrony) -> dict[str, Any]:
    within = clip.within
    return {
        "key": clip.key,
        "frame_to_window": within.frame_to_window.top1,
        "window_to_frame": within.window_to_frame.top1,
        "num_windows": within.frame_to_window.num_candidates,
        "num_frames": within.window_to_frame.num_candidates,
        **_delay_record("", clip.own.delay),
        **_delay_record("other_", clip.other.delay),
    }


def _delay_record(prefix: str, delay: Delay | None) -> dict[str, Any]:
    found = asdict(delay) if delay else {}
    return {f"{prefix}{name}": found.get(name) for name in ("delay_s", "agreement", "similarity")}


def _known(figures: SynchronyFigures) -> dict[float, ShiftDetection]:
    """Without the shifts for which no clip is long enough."""
    return {shift_s: one for shift_s, one in figures.shifts.items() if one}


def _matching_rows(direction: str, matched: MatchingFigures) -> list[Score]:
    name, candidates = f"within a clip: {direction}", f"of {matched.num_candidates:.3g}, on average"
    return [
        Score(name, matched.top1, candidates),
        Score(f"{name}, error", matched.error_s, "mean", digits=2),
    ]


def _detection_row(name: str, one: ShiftDetection) -> Score:
    return Score(f"{name}: AUC", one.auc, f"each by itself {one.own.value:.1f} %")


def _detection_cells(one: ShiftDetection) -> list[str]:
    return [str(one.num_clips), *_cells(one.auc, one.own)]


def _cells(*estimates: Estimate) -> list[str]:
    return [one.with_interval for one in estimates]
