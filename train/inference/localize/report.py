"""The record and the page of a localisation: its scores, the overlay, the similarity over time, and frames."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.train.inference.localize.calibration import ERROR_RATE, Calibration
from cavsync.train.inference.localize.localized_video import LocalizedVideo
from cavsync.train.inference.localize.localizer import MAX_AUDIO_S
from cavsync.train.inference.localize.overlay import overlay_poster
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.images import png
from cavsync.train.reporting.page import CaptionedImage, ImageSet, PlayableVideo, Score, Section
from cavsync.train.reporting.plots import ACCENT
from cavsync.train.reporting.record import EvaluationResult

OVERLAY = "overlay.mp4"


def overlay_section(found: LocalizedVideo, address: str) -> Section:
    """The overlay video at `address`."""
    what = "its own audio" if found.audio is None else f"the audio of {found.audio.name}"
    return Section(
        f"{found.video.name} with {what}",
        "The heatmap is bright where the audio comes from, on one scale for all windows from the threshold on, which starts at the median of "
        "their cells. Where the frame is dimmed, its similarity to the audio is below the threshold. There is one heatmap for each "
        "window; between two windows it is interpolated.",
        films=[PlayableVideo(address, found.sentence, overlay_poster(found, next(iter(found.maps))))],
    )


def similarity_section(found: LocalizedVideo) -> Section:
    text = "The similarity of the frame in the middle of each window to the audio: the cosine of their embeddings. "
    if found.calibration is not None:
        text += (
            f"The dashed line is the threshold. It is reached by {1 - ERROR_RATE:.0%} of the frames of {found.calibration.source} with their own "
            f"audio, and by {found.calibration.unrelated_fraction:.0%} with another clip's."
        )
    return Section(
        "Similarity over time", text, images=[CaptionedImage(similarity_curve(found), _spans(found))]
    )


def still_section(stills: Sequence[ImageSet]) -> Section:
    return Section(
        "Frames",
        "As the model takes them, and each heatmap on its own scale: dark is cold, yellow is hot.",
        image_sets=stills,
    )


def similarity_curve(found: LocalizedVideo) -> bytes:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.middles_s, found.similarity, "o-", color=ACCENT, markersize=3)
    if found.calibration is not None:
        axes.axhline(found.calibration.threshold, color="#888888", linestyle="--", linewidth=1)
    for start_s, end_s in found.spans_s:
        axes.axvspan(start_s, end_s, color=ACCENT, alpha=0.12, linewidth=0)
    axes.set_xlim(0, found.duration_s)
    axes.set_xlabel("seconds")
    axes.set_ylabel("cosine")
    return png(figure)


def localized_rows(found: LocalizedVideo) -> list[Score]:
    passing = Estimate(
        100 * found.passing_fraction if found.verdict != "cannot tell" else float("nan"),
        chance=None if found.calibration is None else 100 * found.calibration.unrelated_fraction,
    )
    note = (
        "chance: with unrelated audio"
        if found.calibration is None
        else f"found above {found.calibration.limit:.0%}; chance: with unrelated audio"
    )
    similarity = Estimate(float(np.nanmean(found.similarity)), unit="")
    return [
        Score("windows from the threshold on", passing, note),
        Score("mean similarity", similarity, digits=3),
    ]


def localized_result(
    found: LocalizedVideo, stills: Sequence[ImageSet], damage: Sequence[str]
) -> EvaluationResult:
    return EvaluationResult(
        evaluation="localize-video",
        title=f"Where in {found.video.name} audio comes from",
        lead=found.sentence,
        scores=localized_rows(found),
        sections=[overlay_section(found, OVERLAY), similarity_section(found), still_section(stills)],
        facts=[*facts(found), *(("not in the overlay", line) for line in damage)],
        coverage=Coverage(1, kind="videos"),
        items=[found.video.name],
        weights=found.weights,
        data=found.video,
        defined_by=found.video,
        config={"audio": found.audio, "methods": list(found.maps), **asdict(found.map)},
        results=_results(found) | {"overlay_lacks": list(damage)},
    )


def _results(found: LocalizedVideo) -> dict[str, Any]:
    is_decided = found.verdict != "cannot tell"
    return {
        "verdict": found.verdict,
        "sentence": found.sentence,
        "spans_s": found.spans_s if is_decided else None,
        "num_windows": len(found.start_s),
        "num_scored": int(found.is_scored.sum()),
        "num_passing": int(found.passes.sum()) if is_decided else None,
        "calibration": _calibration_record(found.calibration),
        "familiarity": {side: asdict(one) for side, one in found.familiarity.items()},
        "duration_s": found.duration_s,
        "state": str(found.state),
        "reason": found.reason,
    }


def _calibration_record(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "source": calibration.source,
        "num_pairs": sum(map(len, calibration.matched)),
        "num_files": calibration.num_files,
        "error_rate": ERROR_RATE,
        "threshold": calibration.threshold,
        "unrelated_fraction": calibration.unrelated_fraction,
        "limit": calibration.limit,
        "limit_error_rate": calibration.limit_error_rate,
    }


def warnings_of(found: LocalizedVideo) -> list[str]:
    """Sentences on what is missing in the video or in the audio."""
    lines = [] if found.state == ClipState.OK else [f"{found.video}: {found.state}: {found.reason}"]
    if found.audio is not None:
        with DecoderProcess() as decoder:
            length_s = decoder.duration_s(found.audio) or 0.0
        if length_s > MAX_AUDIO_S:
            lines.append(f"{found.audio}: only its first {MAX_AUDIO_S:g} s are used")
    silent = int((~found.is_scored).sum())
    if silent:
        lines.append(
            f"{found.video}: {silent} of {len(found.is_scored)} windows lack audio or a frame and have no heatmap"
        )
    return lines


def facts(found: LocalizedVideo) -> list[tuple[str, str]]:
    return [
        ("video", str(found.video)),
        ("state", f"{found.state}{'' if found.reason is None else f': {found.reason}'}"),
        ("audio", "its own" if found.audio is None else str(found.audio)),
        ("weights", str(found.weights)),
        (
            "maps",
            ", ".join(
                f"{method} (our method): {found.map.views}" if method == "masked-view" else method
                for method in found.maps
            ),
        ),
        ("calibrated by", "nothing" if found.calibration is None else found.calibration.source),
        *(
            (f"{side} embeddings: similarity to the nearest of the calibration clips", one.sentence)
            for side, one in found.familiarity.items()
        ),
    ]


def _spans(found: LocalizedVideo) -> str:
    if found.verdict == "cannot tell":
        return "no verdict"
    spans = ", ".join(f"{start_s:.1f} - {end_s:.1f} s" for start_s, end_s in found.spans_s)
    return f"from the threshold on at {spans}" if spans else "no window reaches the threshold"
