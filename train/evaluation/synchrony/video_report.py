"""What `cavsync eval synchrony --video` writes about one video: report.json and a page with its curve."""

import math
from dataclasses import asdict
from pathlib import Path

from cavsync.train.evaluation.synchrony.plots import picture_curves, video_curve
from cavsync.train.evaluation.synchrony.video import VideoSynchrony
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.page import Picture, Report, Score, Section, write_report
from cavsync.train.reporting.record import Record, make_record, write_record


def write_video_synchrony(found: VideoSynchrony, out: Path) -> Record:
    """`report.json` and `report.html` in `out`; returns the record."""
    told = found.verdict != "cannot tell"
    curve = Section(
        "Similarity by offset",
        "Every picture with the windows of sound around it. At 1 s each picture is paired with the sound one second after it, as if "
        "the sound were a second late. The peak is where picture and sound fit best. The curve ends where more than half "
        "of the pictures have no sound left.",
        pictures=[
            Picture(video_curve(found.curve, found.delay, told), f"mean over {len(found.times_s)} pictures")
        ],
    )
    each = Section(
        "Each picture by itself",
        "A column a picture, bright where the sound fits. A delay that is real shows as a bright band at one level from end to "
        "end; a band that climbs is a delay that grows. Slanted edges are sounds that last: the later the picture, the sooner they are over.",
        pictures=[
            Picture(picture_curves(found.curve, found.times_s, found.delay), "dashed: the peak of the mean")
        ],
    )
    report = Report(
        title=f"Synchrony of {found.video.name}",
        lead=found.sentence,
        scores=video_rows(found),
        sections=[curve, each],
        facts=facts(found),
    )
    write_report(report, out / "report.html")
    return write_record(as_record(found), out)


def as_record(found: VideoSynchrony) -> Record:
    return make_record(
        "synchrony-video",
        scores=video_rows(found),
        coverage=Coverage(1, kind="videos"),
        items=[found.video.name],
        weights=found.weights,
        data=found.video,
        defined_by=found.video,
        config={**asdict(found.config), "pictures_per_s": found.pictures_per_s, **asdict(found.inputs)},
        results={
            "verdict": found.verdict,
            "sentence": found.sentence,
            "peak": found.delay,
            "duration_s": found.duration_s,
            "file_duration_s": found.file_duration_s,
            "num_pictures": len(found.times_s),
            "curve": {
                "offsets_s": found.curve.offsets_s,
                "mean": found.curve.mean,
                "num_pictures": found.curve.num_pictures,
            },
        },
    )


def video_rows(found: VideoSynchrony) -> list[Score]:
    """The delay, undefined where it cannot be told, and what it rests on."""
    told, delay = found.verdict != "cannot tell", found.delay
    enough = f"a delay is told from {100 * found.config.min_agreement:g} % on"
    return [
        Score("delay of the sound", delay.delay_s if told and delay else math.nan, None, unit="s", digits=2),
        Score("agreement of the pictures", 100 * delay.agreement if delay else math.nan, None, note=enough),
    ]


def facts(found: VideoSynchrony) -> list[tuple[str, str]]:
    length = f"{found.duration_s:.2f} s of picture and sound"
    if found.file_duration_s > found.duration_s + 1:
        length += f"; the file lasts {found.file_duration_s:.2f} s, one of the two ends before"
    return [
        ("video", str(found.video)),
        ("read", f"{length}; {len(found.times_s)} pictures, {found.pictures_per_s:g} a second"),
        ("weights", str(found.weights)),
        ("windows", f"every {found.config.step_s:g} s and at each picture"),
        ("offsets", f"up to {found.config.max_offset_s:g} s either way"),
    ]
