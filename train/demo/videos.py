"""Embeds the demo's test clips as a user's own videos, searches them by the audio of one object, and localises one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import SegmentRequest
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.media.encode import mp3_bytes
from cavsync.pipeline.media.mel import log_mel
from cavsync.pipeline.synthetic.segmentation_set import LIST_NAME
from cavsync.train.demo.demo import DemoConfig
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.embedding.windows.files import EmbedderSpec, embed_files
from cavsync.train.embedding.windows.window_file import WindowFile
from cavsync.train.evaluation.heatmaps.heatmap import QUICK
from cavsync.train.evaluation.statistics import mean_percent
from cavsync.train.inference.localize.calibration import calibrate
from cavsync.train.inference.localize.folder import write_localized
from cavsync.train.inference.localize.localized_video import LocalizedVideo
from cavsync.train.inference.localize.localizer import localize
from cavsync.train.inference.localize.report import OVERLAY, overlay_section
from cavsync.train.inference.search.hits import Hit, search
from cavsync.train.inference.search.page import clock, thumbnail, write_search_page
from cavsync.train.inference.search.query import read_query
from cavsync.train.reporting.page import Answer, ClipPreview, RankedQuery, Score, Section, data_url
from cavsync.train.reporting.plots import mel_strip

NUM_HITS = 5
# Hits among which the first right one is searched.
MOST_HITS = 100
# Queries whose hits the page shows.
QUERIES_SHOWN = 3
AUDIO_S = 10.0
OnDone = Callable[[int, int], None]


@dataclass(frozen=True)
class Searched:
    """The audio of one class alone, its hits, and which of them show that class at their best instant."""

    class_name: str
    audio: Path
    hits: list[Hit]  # best first
    right: list[bool]


@dataclass(frozen=True)
class WorldSearch:
    file: WindowFile
    searches: list[Searched]  # one a class
    presence: float  # fraction of the time for which a class is there, the mean over classes


def search_world(
    config: DemoConfig,
    checkpoint: LoadedCheckpoint,
    truth: dict[str, Any],
    on_file: OnDone = lambda done, total: None,
) -> WorldSearch:
    """Searches the frames of the test videos by the audio of each class alone."""
    turns = {
        str(config.root / clip["video"]): clip["turns"] for clip in truth["clips"] if clip["split"] == "test"
    }
    spec = EmbedderSpec(weights=checkpoint.weights, step_s=None, device="auto")
    files = [Path(name) for name in turns]
    out = config.run / "test-videos.parquet"
    file = embed_files(files, spec, out, Workers(), lambda record, done, total: on_file(done, total))
    embedder = Embedder(checkpoint)
    prompts = pd.read_csv(config.prompted / LIST_NAME).drop_duplicates("ade_class").sort_values("ade_class")
    searches = []
    for class_name, name in zip(prompts["ade_class"], prompts["vggsound_file"], strict=True):
        audio = config.prompted / "audio" / name
        # Among frames only: audio is found among audio without any knowledge of images.
        found = search(file, read_query(audio, embedder), "image", MOST_HITS)
        right = [is_there(class_name, turns[hit.file], hit.best_s) for hit in found.hits]
        searches.append(Searched(class_name, audio, found.hits, right))
        write_search_page(
            replace(found, hits=found.hits[:NUM_HITS]), file, config.run / "search" / f"{class_name}.html"
        )
    length_s = sum(record.duration_s for record in file.files)
    sounding_s = sum(turn["end_s"] - turn["start_s"] for of_clip in turns.values() for turn in of_clip)
    return WorldSearch(file, searches, sounding_s / length_s / len(truth["classes"]))


def is_there(class_name: str, turns: list[dict[str, Any]], time_s: float) -> bool:
    """Whether the class is visible at that time."""
    visible = [turn for turn in turns if turn["class"] == class_name and turn.get("on_screen", True)]
    return any(turn["start_s"] <= time_s < turn["end_s"] for turn in visible)


def search_row(searched: WorldSearch) -> Score:
    precisions = np.array([np.mean(one.right[:NUM_HITS]) for one in searched.searches])
    found = mean_percent(precisions, 100 * searched.presence)
    return Score("found in frames by audio", found, f"first {NUM_HITS} hits")


def search_section(searched: WorldSearch) -> Section:
    """The hits of some queries, with the frame at each hit's best instant."""
    with DecoderProcess() as decoder:
        queries = [_query(one, searched.file, decoder) for one in searched.searches[:QUERIES_SHOWN]]
    return Section(
        "Search: frames by audio",
        "The test videos were embedded as a user's own (cavsync embed), and their frames searched by the audio of one "
        "object alone, which is in none of them (cavsync search AUDIO --against image). A hit is right where that object is "
        f"there at its best instant. All {len(searched.searches)} queries have a page in the run's folder search/.",
        queries=queries,
    )


def _query(searched: Searched, file: WindowFile, decoder: DecoderProcess) -> RankedQuery:
    waveform = decoder.read(SegmentRequest(searched.audio, 0.0, AUDIO_S)).waveform
    preview = ClipPreview(searched.class_name, mel=mel_strip(log_mel(waveform)), mp3=mp3_bytes(waveform))
    shown = list(zip(searched.hits, searched.right, strict=True))[:NUM_HITS]
    answers = [
        Answer(_seen(hit, file, decoder), hit.score, number, right)
        for number, (hit, right) in enumerate(shown, 1)
    ]
    first_right = searched.right.index(True) if True in searched.right else len(searched.right)
    return RankedQuery(preview, first_right + 1, answers)


def _seen(hit: Hit, file: WindowFile, decoder: DecoderProcess) -> ClipPreview:
    title = f"{Path(hit.file).stem}, {clock(hit.start_s)} - {clock(hit.end_s)}"
    jpeg = thumbnail(hit, file.media(hit.file), decoder)
    return ClipPreview(title, frames=() if jpeg is None else (jpeg,))


def localize_world(
    config: DemoConfig, checkpoint: LoadedCheckpoint, truth: dict[str, Any], on_second: OnDone
) -> LocalizedVideo:
    """Writes heatmaps of the first test video, as an overlay video in the run's folder localized/."""
    video = next(config.root / clip["video"] for clip in truth["clips"] if clip["split"] == "test")
    embedder = Embedder(checkpoint)
    found = localize(embedder, video, None, ("masked-view",), QUICK, calibrate(embedder), on_second)
    write_localized(found, config.run / "localized")
    return found


def localized_section(config: DemoConfig, found: LocalizedVideo) -> Section:
    """The overlay video, embedded in the page."""
    overlay = (config.run / "localized" / OVERLAY).read_bytes()
    return overlay_section(found, data_url(overlay, "video/mp4"))
