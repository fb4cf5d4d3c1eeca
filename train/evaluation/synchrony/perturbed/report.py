"""The part of a report on synchrony that compares a clip's own audio with perturbed versions of it."""

from cavsync.train.evaluation.published import AV_SYNCBENCH, cells
from cavsync.train.evaluation.synchrony.perturbed.listed import ListedPairScores
from cavsync.train.evaluation.synchrony.perturbed.pairs import PairAccuracy, PairwiseFigures
from cavsync.train.reporting.page import Score, Section, Table
from cavsync.train.reporting.record import EvaluationResult

RULE = (
    "The score is the mean similarity of the frames with their windows of audio. The original must score strictly above the perturbed "
    "audio; a tie is wrong, so a model that ignores the change gets 0, and one that guesses 50. Intervals are those of clips, whose "
    "pairs belong together."
)
MADE_HERE = (
    "Perturbed here, at the level of the stored log-mel (rows of 10 ms): offset moves the audio by whole rows, both ways; jitter moves each "
    "half second by that much, to a side that is drawn; speed plays it that much slower and faster from the clip's start, pitch "
    "kept; timbre is a fixed filter, darker and brighter, and not another source. Frames count whose window lies in audio on both "
    "sides; nothing is padded."
)
OTHER_GALLERY = (
    "Published figures are of AV-SyncBench's own videos and files, another gallery than the clips here: they compare only with "
    "--manifest on its complete list of 15,000 pairs. Their models were trained to find offsets."
)


def listed_pairs_result(scores: ListedPairScores) -> EvaluationResult:
    return EvaluationResult(
        evaluation="synchrony-pairs",
        title=f"Own audio against perturbed audio: {scores.manifest.name}",
        lead=f"{scores.coverage.sentence}.",
        scores=pairwise_rows(scores.figures),
        sections=pairwise_sections(scores.figures, ""),
        facts=[
            ("weights", str(scores.weights)),
            ("list", str(scores.manifest)),
            ("pairs", scores.coverage.sentence),
            (
                "frames",
                f"{scores.frames_per_s:g} a second, each with its own window of {scores.window_rows} rows",
            ),
        ],
        coverage=scores.coverage,
        items=scores.items,
        weights=scores.weights,
        data=scores.manifest,
        defined_by=scores.manifest,
        config={
            "frames_per_s": scores.frames_per_s,
            "window_rows": scores.window_rows,
            "mel_mean": scores.inputs.mel_mean,
            "mel_std": scores.inputs.mel_std,
            "pad_value": scores.inputs.pad_value,
        },
        results={"pairwise": scores.figures, "pairs": scores.pairs},
    )


def pairwise_rows(figures: PairwiseFigures) -> list[Score]:
    rows = []
    for negative, overall in figures.negatives.items():
        amounts = {name: one for name, one in figures.amounts[negative].items() if name}
        rows.append(Score(f"pairwise: {negative}", overall.accuracy, _counted(overall)))
        rows += [
            Score(f"pairwise: {negative}, {name}", one.accuracy, _counted(one))
            for name, one in amounts.items()
        ]
    return rows


def _counted(one: PairAccuracy) -> str:
    pairs = "1 pair" if one.num_pairs == 1 else f"{one.num_pairs:,} pairs"
    return pairs + (f", {one.num_ties:,} tied" if one.num_ties else "")


def pairwise_sections(figures: PairwiseFigures, made: str) -> list[Section]:
    """`made` says how the perturbed audio was made."""
    rows = [
        [negative, amount or "(not given)", *_cells(one)]
        for negative, amounts in figures.amounts.items()
        for amount, one in amounts.items()
    ]
    rows += [["offset", f"all, {direction}", *_cells(one)] for direction, one in figures.directions.items()]
    header = ["perturbed", "by", "clips", "pairs", "ties", "own audio above, %"]
    text = f"{RULE} {made}".strip()
    section = Section("Own audio against perturbed audio", text, tables=[Table(header, rows)])
    return [section, *([_published(figures)] if figures.published_order[-1] else [])]


def _cells(one: PairAccuracy) -> list[str]:
    return [str(one.num_clips), str(one.num_pairs), str(one.num_ties), one.accuracy.with_interval]


def _published(figures: PairwiseFigures) -> Section:
    ours = ["" if one is None else f"{one.accuracy.value:.1f}" for one in figures.published_order]
    header = ["model", "50 ms", "100 ms", "200 ms", "300 ms", "500 ms", "all offsets", "source"]
    table = Table(header, [["this run", *ours, "computed here"], *cells(AV_SYNCBENCH)], note=True)
    return Section("Beside published figures (another gallery)", OTHER_GALLERY, tables=[table])
