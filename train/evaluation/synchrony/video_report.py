"""The report on the synchrony of one video: its delay and its curves of similarity."""

import math
from dataclasses import asdict

from cavsync.train.evaluation.synchrony.plots import frame_curves, video_curve
from cavsync.train.evaluation.synchrony.video import VideoSynchrony
from cavsync.train.reporting.coverage import Coverage
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import CaptionedImage, Score, Section
from cavsync.train.reporting.record import EvaluationResult


def video_synchrony_result(found: VideoSynchrony) -> EvaluationResult:
    return EvaluationResult(
        evaluation="synchrony-video",
        title=f"Synchrony of {found.video.name}",
        lead=found.sentence,
        scores=video_rows(found),
        sections=[_curve_section(found), _frames_section(found)],
        facts=facts(found),
        coverage=Coverage(1, kind="videos"),
        items=[found.video.name],
        weights=found.weights,
        data=found.video,
        defined_by=found.video,
        config={**asdict(found.config), "frames_per_s": found.frames_per_s, **asdict(found.inputs)},
        results={
            "verdict": found.verdict,
            "sentence": found.sentence,
            "peak": found.delay,
            "duration_s": found.duration_s,
            "file_duration_s": found.file_duration_s,
            "num_frames": len(found.times_s),
            "curve": {
                "offsets_s": found.curve.offsets_s,
                "mean": found.curve.mean,
                "num_frames": found.curve.num_frames,
            },
        },
    )


def video_rows(found: VideoSynchrony) -> list[Score]:
    """The delay, undefined where it is not reliable, and the agreement that it is based on."""
    delay, reliable = found.delay, found.verdict != "cannot tell"
    delay_s = delay.delay_s if reliable and delay else math.nan
    agreement = 100 * delay.agreement if delay else math.nan
    enough = f"how far they have one delay in common; reliable from {100 * found.config.min_agreement:g} % on"
    return [
        Score("delay of the audio", Estimate(delay_s, unit="s"), digits=2),
        Score("agreement of the frames", Estimate(agreement), enough),
    ]


def _curve_section(found: VideoSynchrony) -> Section:
    reliable = found.verdict != "cannot tell"
    plot = video_curve(found.curve, found.delay, reliable)
    return Section(
        "Similarity by offset",
        "Every frame with the windows of audio around it. At 1 s each frame is paired with the audio one second after it, as "
        "if the audio were a second late. The peak is where frames and audio match best. The curve ends where more than half "
        "of the frames have no audio left.",
        images=[CaptionedImage(plot, f"mean over {len(found.times_s)} frames")],
    )


def _frames_section(found: VideoSynchrony) -> Section:
    plot = frame_curves(found.curve, found.times_s, found.delay)
    return Section(
        "Each frame by itself",
        "A column a frame, bright where the audio matches. A real delay shows as a bright band at one level from end to end; a "
        "band that climbs is a delay that grows. Slanted edges are long sounds: the later the frame, the sooner they end.",
        images=[CaptionedImage(plot, "dashed: the peak of the mean")],
    )


def facts(found: VideoSynchrony) -> list[tuple[str, str]]:
    length = f"{found.duration_s:.2f} s of video and audio"
    if found.file_duration_s > found.duration_s + 1:
        length += f"; the file lasts {found.file_duration_s:.2f} s, one of the two ends before"
    return [
        ("video", str(found.video)),
        ("read", f"{length}; {len(found.times_s)} frames, {found.frames_per_s:g} a second"),
        ("weights", str(found.weights)),
        ("windows", f"every {found.config.step_s:g} s and at each frame"),
        ("offsets", f"up to {found.config.max_offset_s:g} s either way"),
    ]
