"""What `cavsync localize` leaves in its folder: overlay.mp4, pictures, maps.npz, report.json and a page.

maps.npz holds, for W windows:

    start_s, end_s, frame_s   (W,) the window of sound, and when its picture came on screen; seconds from the start
    map_<method>              (W, rows, columns) float32, NaN where there is no picture or no sound
    likeness                  (W,) cosine of picture and sound, NaN as above
    passes                    (W,) bool: from the threshold on; all that were asked where nothing was calibrated
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.media.probe import duration_s
from cavsync.pipeline.storage.atomic import AtomicWriter, write_atomically
from cavsync.train.data.images import decode_jpeg
from cavsync.train.evaluation.heatmaps.plots import heatmap_row
from cavsync.train.inference.calibration import ERRORS
from cavsync.train.inference.localize import LONGEST_SOUND_S, Localized, spans_s
from cavsync.train.inference.overlay import middles_s, write_overlay
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Film, Picture, Score, Section
from cavsync.train.reporting.plots import ACCENT, png
from cavsync.train.reporting.record import EvaluationResult, Record, write_evaluation

OVERLAY, MAPS, PICTURES = "overlay.mp4", "maps.npz", "pictures"
# Windows that are shown as pictures, spread evenly over those that were asked.
MAX_PICTURES = 8
SIDE_PX = 224


def write_localized(
    found: Localized, out: Path, on_second: Callable[[int, int], None] = lambda done, total: None
) -> Record:
    """Everything, in `out`; returns the record of report.json. The film shows the first method."""
    damage = write_overlay(found, next(iter(found.maps)), out / OVERLAY, on_second)
    write_maps(found, out / MAPS)
    stills = still_pictures(found)
    for still, number in zip(stills, shown_windows(found), strict=True):
        write_atomically(out / PICTURES / f"{found.frame_s[number]:09.2f}s.png", still.png)
    return write_evaluation(localized_result(found, stills, damage), out)


def write_maps(found: Localized, path: Path) -> None:
    arrays: dict[str, Any] = {
        name: getattr(found, name) for name in ("start_s", "end_s", "frame_s", "likeness", "passes")
    }
    arrays |= {f"map_{method}": cells for method, cells in found.maps.items()}
    with AtomicWriter(path) as draft:
        np.savez_compressed(draft.file, **arrays)
        draft.publish()


def shown_windows(found: Localized) -> list[int]:
    asked = np.flatnonzero(found.asked)
    places = np.linspace(0, len(asked) - 1, min(MAX_PICTURES, len(asked))).round().astype(int)
    chosen: list[int] = asked[places].tolist()
    return chosen


def still_pictures(found: Localized) -> list[Picture]:
    """Each shown window's picture, and each method's map over it."""
    nowhere = np.zeros((SIDE_PX, SIDE_PX), bool)
    stills = []
    for number in shown_windows(found):
        jpeg = found.pictures[number]
        assert jpeg is not None
        maps: dict[str, np.ndarray] = {method: cells[number] for method, cells in found.maps.items()}
        row = heatmap_row(decode_jpeg(bytearray(jpeg)).numpy(), nowhere, maps)
        stills.append(Picture(row, f"{found.frame_s[number]:.2f} s: {_said(found, number)}"))
    return stills


def film_section(found: Localized, address: str) -> Section:
    """The film, wherever it is."""
    what = "its own sound" if found.sound is None else f"the sound {found.sound.name}"
    return Section(
        f"{found.video.name}, asked for {what}",
        "The map glows where the sound comes from, scaled by all windows that pass: half of their cells are cold. Dimmed, nothing in the "
        "picture is as alike as a sound that comes from it. One map stands for each window; between two it is a mix of both.",
        films=[Film(address, found.sentence)],
    )


def likeness_section(found: Localized) -> Section:
    text = (
        "How alike the picture in the middle of each window is to the sound: the cosine of their embeddings. "
    )
    if found.calibration is not None:
        text += (
            f"The dashed line is passed by {1 - ERRORS:.0%} of the pictures in {found.calibration.source} with their own "
            f"sound, and by {found.calibration.foreign_share:.0%} with another clip's."
        )
    return Section("Likeness over time", text, pictures=[Picture(likeness_curve(found), _spans(found))])


def likeness_curve(found: Localized) -> bytes:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(middles_s(found), found.likeness, "o-", color=ACCENT, markersize=3)
    if found.calibration is not None:
        axes.axhline(found.calibration.threshold, color="#888888", linestyle="--", linewidth=1)
    for start_s, end_s in spans_s(found):
        axes.axvspan(start_s, end_s, color=ACCENT, alpha=0.12, linewidth=0)
    axes.set_xlim(0, found.duration_s)
    axes.set_xlabel("seconds")
    axes.set_ylabel("cosine")
    return png(figure)


def localized_rows(found: Localized) -> list[Score]:
    passing = Estimate(
        100 * found.share if found.verdict != "cannot tell" else float("nan"),
        chance=None if found.calibration is None else 100 * found.calibration.foreign_share,
    )
    note = (
        "chance: with foreign sounds"
        if found.calibration is None
        else f"found above {found.calibration.limit:.0%}; chance: with foreign sounds"
    )
    likeness = Estimate(float(np.nanmean(found.likeness)), unit="")
    return [Score("windows that pass", passing, note), Score("mean likeness", likeness, digits=3)]


def localized_result(found: Localized, stills: Sequence[Picture], damage: Sequence[str]) -> EvaluationResult:
    calibration = found.calibration
    still_section = Section(
        "Pictures",
        "As the model sees them, and each map on its own scale: dark is cold, yellow is hot.",
        pictures=stills,
    )
    return EvaluationResult(
        evaluation="localize-video",
        title=f"Where in {found.video.name} a sound comes from",
        lead=found.sentence,
        scores=localized_rows(found),
        sections=[film_section(found, OVERLAY), likeness_section(found), still_section],
        facts=[*facts(found), *(("not in the film", line) for line in damage)],
        coverage=Coverage(1, kind="videos"),
        items=[found.video.name],
        weights=found.weights,
        data=found.video,
        defined_by=found.video,
        config={"sound": found.sound, "methods": list(found.maps), **asdict(found.map)},
        results={
            "verdict": found.verdict,
            "sentence": found.sentence,
            "spans_s": spans_s(found) if found.verdict != "cannot tell" else None,
            "num_windows": len(found.start_s),
            "num_asked": int(found.asked.sum()),
            "num_passing": int(found.passes.sum()) if found.verdict != "cannot tell" else None,
            "calibration": None
            if calibration is None
            else {
                "source": calibration.source,
                "num_pairs": len(calibration.own),
                "num_files": len(calibration.foreign),
                "errors": ERRORS,
                "threshold": calibration.threshold,
                "foreign_share": calibration.foreign_share,
                "limit": calibration.limit,
            },
            "duration_s": found.duration_s,
            "state": str(found.state),
            "reason": found.reason,
            "film_lacks": list(damage),
        },
    )


def warnings_of(found: Localized) -> list[str]:
    """What a user should know of the video."""
    lines = [] if found.state == ClipState.OK else [f"{found.video}: {found.state}: {found.reason}"]
    if found.sound is not None and (duration_s(str(found.sound)) or 0) > LONGEST_SOUND_S:
        lines.append(f"{found.sound}: only its first {LONGEST_SOUND_S:g} s are asked for")
    silent = int((~found.asked).sum())
    if silent:
        lines.append(
            f"{found.video}: {silent} of {len(found.asked)} windows lack a sound or a picture and have no map"
        )
    return lines


def facts(found: Localized) -> list[tuple[str, str]]:
    return [
        ("video", str(found.video)),
        ("state", f"{found.state}{'' if found.reason is None else f': {found.reason}'}"),
        ("sound", "its own" if found.sound is None else str(found.sound)),
        ("weights", str(found.weights)),
        (
            "maps",
            ", ".join(
                f"{method} (our method)" if method == "masked-view" else method for method in found.maps
            ),
        ),
        ("calibrated by", "nothing" if found.calibration is None else found.calibration.source),
    ]


def _said(found: Localized, number: int) -> str:
    verdict = "passes" if found.passes[number] else "nothing here sounds like this"
    return f"likeness {found.likeness[number]:.2f}" + (
        "" if found.verdict == "cannot tell" else f", {verdict}"
    )


def _spans(found: Localized) -> str:
    if found.verdict == "cannot tell":
        return "no verdict"
    spans = ", ".join(f"{start_s:.1f} - {end_s:.1f} s" for start_s, end_s in spans_s(found))
    return f"passes at {spans}" if spans else "no window passes"
