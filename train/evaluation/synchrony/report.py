"""What `cavsync eval synchrony` writes about a split: report.json and a page with curves."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cavsync.pipeline.dataset.paths import SUMMARY_NAME
from cavsync.train.evaluation.statistics import Figure, Interval
from cavsync.train.evaluation.synchrony.clip import ClipSynchrony, Heard
from cavsync.train.evaluation.synchrony.metrics import Detection, MatchingFigures, SynchronyFigures
from cavsync.train.evaluation.synchrony.plots import (
    clip_curves,
    delay_histogram,
    detection_curve,
    mean_curve,
)
from cavsync.train.evaluation.synchrony.protocol import SynchronyScores
from cavsync.train.reporting.page import (
    Picture,
    Report,
    Score,
    Section,
    Table,
    unusable_sections,
    write_report,
)
from cavsync.train.reporting.record import Record, make_record, write_record

CLIPS_SHOWN = 8


def write_synchrony(scores: SynchronyScores, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    report = Report(
        title="Synchrony",
        lead="Does sound belong to the instant of its picture? "
        f"{scores.coverage.sentence} of split {scores.task.data.split!r}.",
        scores=synchrony_rows(scores),
        sections=[*synchrony_sections(scores), *unusable_sections(scores.coverage)],
        facts=facts(scores),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(scores), out)


def as_record(scores: SynchronyScores) -> Record:
    data = Path(scores.task.data.path)
    return make_record(
        "synchrony",
        scores=synchrony_rows(scores),
        coverage=scores.coverage,
        items=[clip.key for clip in scores.clips],
        weights=scores.task.weights,
        data=data,
        defined_by=data / SUMMARY_NAME,
        config={**asdict(scores.config), "window_rows": scores.model.audio_rows, **asdict(scores.task.data)},
        results={**vars(scores.figures), "clips": [_clip_record(clip) for clip in scores.clips]},
    )


def synchrony_rows(scores: SynchronyScores) -> list[Score]:
    """The table: matching inside clips, delays, and what moved or foreign sound is told by."""
    figures, delay = scores.figures, scores.figures.delay
    return [
        *_matching_rows("frame → window", figures.picture_to_window),
        *_matching_rows("window → frame", figures.window_to_picture),
        _score(f"delay found within {scores.config.tolerance_s:g} s", delay.within, delay.chance),
        _seconds("delay: error", delay.median_error_s, delay.error_chance_s, "median"),
        _score("delay told", delay.told, delay.told_other.percent, "chance: another's sound"),
        *(_detection_row(f"moved by {shift_s:g} s", one) for shift_s, one in _known(figures).items()),
        *([_detection_row("another clip's sound", figures.other_sound)] if figures.other_sound else []),
    ]


def synchrony_sections(scores: SynchronyScores) -> list[Section]:
    return [
        curve_section(scores),
        _delay_section(scores),
        _detection_section(scores.figures),
        _clips_section(scores),
    ]


def curve_section(scores: SynchronyScores) -> Section:
    window_s = scores.model.audio_rows / 100
    text = (
        "Every frame with the windows of sound around it. At 1 s each frame is paired with the window one second after its own, as "
        "if the sound were a second late. A model that hears what happens when has its peak at 0, and falls to the grey line, "
        f"which is what it gives to another clip's sound. Windows are {window_s:g} s long, so the peak cannot be much narrower. "
        "The curve ends where more than half of the frames have no window left."
    )
    picture = Picture(mean_curve(scores.figures.curve), f"mean over {len(scores.clips)} clips")
    return Section("Similarity by offset", text, pictures=[picture])


def _delay_section(scores: SynchronyScores) -> Section:
    delay = scores.figures.delay
    own, other = (
        [one.delay.delay_s for one in heard if one.delay]
        for heard in ([clip.own for clip in scores.clips], [clip.other for clip in scores.clips])
    )
    text = (
        "Where the curve of each single clip has its peak; the right answer is 0. Agreement says how far the frames want the "
        "same delay: of the similarity that each frame gains at the offset that suits it best, the share that all of them gain "
        "together at one. Below the threshold a delay is not told. The same with another clip's sound shows how often that would "
        "be a false claim."
    )
    cells = [
        [f"within {scores.config.tolerance_s:g} s", *_cells(delay.within, delay.within_other)],
        ["told", *_cells(delay.told, delay.told_other)],
    ]
    if delay.told_within:
        cells.append(
            [f"of those told, within {scores.config.tolerance_s:g} s", *_cells(delay.told_within), ""]
        )
    cells.append(["median delay", f"{delay.bias_s:+.3f} s", ""])
    table = Table(["delay", "own sound", "another clip's sound"], cells)
    pictures = [Picture(delay_histogram(own, other, scores.config.max_offset_s), "estimated delays")]
    return Section("How late is the sound?", text, pictures=pictures, tables=[table])


def _detection_section(figures: SynchronyFigures) -> Section:
    known = _known(figures)
    text = (
        "The score of a clip is the mean similarity of its frames with their windows. AUC: one threshold for all clips, the chance "
        "that a clip in step scores above a clip whose sound was moved (50 is chance, ties count half). Each clip by itself: how "
        "often a clip scores higher in step than moved (a tie is a miss). Both scores are over the same frames, those "
        "that have both windows; sound was moved to both sides."
    )
    rows = [[f"{shift_s:g} s", *_detection_cells(one)] for shift_s, one in known.items()]
    if figures.other_sound:
        rows.append(["another clip's sound", *_detection_cells(figures.other_sound)])
    table = Table(["sound moved by", "clips", "AUC", "each clip by itself"], rows)
    pictures = [Picture(detection_curve(known), "bars: 95 % over resampled clips")] if known else []
    return Section("Is moved sound noticed?", text, pictures=pictures, tables=[table])


def _clips_section(scores: SynchronyScores) -> Section:
    drawn = np.random.default_rng(scores.config.seed).permutation(len(scores.clips))[:CLIPS_SHOWN]
    clips = [scores.clips[number] for number in sorted(drawn.tolist())]
    picture = Picture(clip_curves(clips, scores.config.offsets_s), "red: own sound; grey: another clip's")
    return Section("Single clips", "Drawn at random, with the delay that was found.", pictures=[picture])


def facts(scores: SynchronyScores) -> list[tuple[str, str]]:
    config, data = scores.config, scores.task.data
    return [
        ("weights", str(scores.task.weights)),
        ("dataset", f"{data.path}, split {data.split}"),
        ("clips", scores.coverage.sentence),
        ("alignment", data.alignment),
        ("windows", f"{scores.model.audio_rows} rows, every {config.step_s:g} s and at each frame"),
        ("offsets", f"up to {config.max_offset_s:g} s either way"),
    ]


def _clip_record(clip: ClipSynchrony) -> dict[str, Any]:
    within = clip.within
    return {
        "key": clip.key,
        "picture_to_window": within.picture_to_window.top1,
        "window_to_picture": within.window_to_picture.top1,
        "num_windows": within.picture_to_window.num_candidates,
        "num_pictures": within.window_to_picture.num_candidates,
        **_heard_record("", clip.own),
        **_heard_record("other_", clip.other),
    }


def _heard_record(prefix: str, heard: Heard) -> dict[str, Any]:
    found = asdict(heard.delay) if heard.delay else {}
    return {f"{prefix}{name}": found.get(name) for name in ("delay_s", "agreement", "similarity")}


def _known(figures: SynchronyFigures) -> dict[float, Detection]:
    """Without the shifts for which no clip is long enough."""
    return {shift_s: one for shift_s, one in figures.shifts.items() if one}


def _matching_rows(direction: str, matched: MatchingFigures) -> list[Score]:
    name, candidates = f"within a clip: {direction}", f"of {matched.num_candidates:.3g}, on average"
    return [
        _score(name, matched.top1, matched.chance, candidates),
        _seconds(f"{name}, error", matched.error_s, matched.error_chance_s, "mean"),
    ]


def _detection_row(name: str, one: Detection) -> Score:
    return _score(f"{name}: AUC", one.auc, 50.0, f"each by itself {one.own.percent:.1f} %")


def _score(name: str, figure: Figure, chance: float, note: str = "") -> Score:
    return Score(name, figure.percent, chance, figure.low, figure.high, note)


def _seconds(name: str, interval: Interval, chance_s: float, note: str) -> Score:
    return Score(name, interval.value, chance_s, interval.low, interval.high, note, unit="s", digits=2)


def _detection_cells(one: Detection) -> list[str]:
    return [str(one.num_clips), *_cells(one.auc, one.own)]


def _cells(*figures: Figure) -> list[str]:
    return [f"{one.percent:.1f} ({one.low:.1f} to {one.high:.1f})" for one in figures]
