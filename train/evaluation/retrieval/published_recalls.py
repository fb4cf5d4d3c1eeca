"""Published figures of retrieval beside this run's, and which of them compare with it.

"second-hand" marks figures that were quoted in other places than the paper itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cavsync.train.evaluation.retrieval.protocol import RetrievalScores
from cavsync.train.evaluation.retrieval.tables import (
    AUDIO_TO_VIDEO,
    R_AT,
    VIDEO_TO_AUDIO,
    recall_cells,
    recall_groups,
)
from cavsync.train.reporting.page import Section, Table

Recalls = tuple[float | None, float | None, float | None]  # R@1, R@5, R@10 in %; None was not published


@dataclass(frozen=True)
class PublishedGallery:
    """A list of clips that papers retrieve among."""

    name: str
    num_clips: int
    ids_sha256: str | None  # see Gallery.ids_sha256; None where the list is not public


@dataclass(frozen=True)
class PublishedRetrieval:
    model: str
    video_to_audio: Recalls
    audio_to_video: Recalls
    source: str
    differs: str = ""  # why it compares with no zero-shot score of that gallery


@dataclass(frozen=True)
class RetrievalProtocol:
    """What decides a recall besides the model and the gallery; None is unknown."""

    aggregation: str
    num_pairs: int  # a clip
    frame_times: str | None  # of the frames that preparation stored
    alignment: str | None  # of audio segments with frames

    @classmethod
    def of(cls, scores: RetrievalScores) -> "RetrievalProtocol":
        source, stored = scores.source, None
        if source.task is not None:
            stored = source.task.dataset.summary.get("config", {}).get("frame_times")
        return cls(
            aggregation=scores.config.primary_aggregation,
            num_pairs=scores.embeddings.audio.shape[1],
            frame_times=stored,
            alignment=source.task.data.frame_alignment if source.task else None,
        )

    def deviations(self) -> list[str]:
        """In what this is another protocol than that of the published figures."""
        return [
            f"{title} {given if given is not None else 'unknown'}, published {published}"
            for title, given, published in (
                ("aggregation", self.aggregation, PROTOCOL.aggregation),
                ("frames a clip", self.num_pairs, PROTOCOL.num_pairs),
                ("frame times", self.frame_times, PROTOCOL.frame_times),
                ("alignment", self.alignment, PROTOCOL.alignment),
            )
            if given != published
        ]


# Of CAV-MAE Sync: the code and command of its repository.
PROTOCOL = RetrievalProtocol("diagonal-mean", 16, "upstream", "upstream")

VGGSOUND = PublishedGallery(
    "VGGSound, 5 clips of each class",
    1545,
    "4d58dadf6ffe612bd0374b0d0d3a798c6bbc7f768245f7aefcc9bacddf5591df",
)
AUDIOSET = PublishedGallery("AudioSet, about 5 clips of each class", 1725, None)

# Videos disappear: with this fraction of the list or more, the gallery counts as the published one.
MIN_GALLERY_FRACTION = 0.95

PAGE = "CAV-MAE Sync project page"
TGDP = "TG-DP paper (CVPR 2026), second-hand"
NOT_ZERO_SHOT = "fine-tuned for retrieval"
OTHER_GALLERY = "another gallery of VGGSound"

ON_VGGSOUND = (
    PublishedRetrieval("LanguageBind", (10.3, 30.1, 39.7), (6.5, 22.7, 33.5), PAGE),
    PublishedRetrieval("CAV-MAE", (14.7, 35.3, 45.9), (8.3, 23.8, 32.4), PAGE),
    PublishedRetrieval("CAV-MAE Scale+", (14.8, 34.2, 44.0), (12.8, 30.4, 40.3), PAGE),
    PublishedRetrieval("AVSiam", (19.0, None, None), (20.4, None, None), PAGE),
    PublishedRetrieval("ImageBind", (21.6, 43.4, 52.9), (20.7, 43.2, 53.4), PAGE),
    PublishedRetrieval("CAV-MAE Sync", (27.9, 51.7, 61.8), (23.2, 46.2, 58.1), PAGE),
    PublishedRetrieval("GMS-CAVP", (28.9, None, None), (30.5, None, None), "2026 paper, second-hand"),
    PublishedRetrieval("TG-DP", (31.3, 54.4, 63.9), (30.3, 53.1, 64.3), TGDP),
    PublishedRetrieval("VAB-Encodec", (33.5, 63.3, 74.3), (34.9, 62.7, 73.1), PAGE, NOT_ZERO_SHOT),
    PublishedRetrieval(
        "PE-AV L, 16 frames", (45.2, None, None), (None, None, None), "PE-AV repository", OTHER_GALLERY
    ),
    PublishedRetrieval(
        "EquiAV",
        (21.8, 45.6, 55.2),
        (24.8, 47.1, 57.6),
        "independent evaluation, 2026, second-hand",
        "1,532 random clips of VGGSound",
    ),
    PublishedRetrieval(
        "ImageBind, many views",
        (29.7, 58.1, 68.7),
        (29.7, 56.0, 66.6),
        "independent evaluation, 2026, second-hand",
        "1,532 random clips of VGGSound",
    ),
)

ON_AUDIOSET = (
    PublishedRetrieval("LanguageBind", (6.4, 20.2, 28.3), (4.4, 15.0, 22.5), PAGE),
    PublishedRetrieval("CAV-MAE", (16.1, 38.6, 49.3), (9.5, 22.6, 32.4), PAGE),
    PublishedRetrieval("CAV-MAE Scale+", (18.8, 39.5, 50.1), (15.1, 34.0, 43.0), PAGE),
    PublishedRetrieval("AVSiam", (19.7, None, None), (17.6, None, None), PAGE),
    PublishedRetrieval("ImageBind", (22.1, 43.2, 52.6), (20.8, 42.6, 51.6), PAGE),
    PublishedRetrieval("CAV-MAE Sync", (35.2, 58.3, 67.6), (27.9, 52.4, 62.2), PAGE),
    PublishedRetrieval("TG-DP", (37.4, None, None), (37.1, None, None), TGDP),
    PublishedRetrieval("VAB-Encodec", (39.5, 65.4, 74.6), (37.5, 64.0, 73.7), PAGE, NOT_ZERO_SHOT),
)


def published_section(scores: RetrievalScores) -> Section:
    """Papers list video → audio first, and so does this table."""
    on_audioset = (
        scores.source.dataset is not None and scores.source.dataset.summary.get("name") == "audioset"
    )
    gallery, published = (AUDIOSET, ON_AUDIOSET) if on_audioset else (VGGSOUND, ON_VGGSOUND)
    ids = scores.gallery.ids_sha256 if scores.gallery else None
    general = why_not_comparable(gallery, ids, scores.coverage.num_scored, RetrievalProtocol.of(scores))
    own = scores.primary.own_clip
    ours = [*recall_cells(own.video_to_audio), *recall_cells(own.audio_to_video)]
    rows = [["this run", *ours, "computed here"], *map(_published_row, published)]
    faded = [number for number, one in enumerate(published, 1) if one.differs or general]
    text = (
        f"Figures of {gallery.name} ({gallery.num_clips:,} listed), in %. Recall depends on how many candidates there are and "
        "which: figures of two galleries do not compare."
    )
    if general:
        text += f" None of these compares with this run ({general}); they are here for orientation."
    else:
        text += " Rows in grey do not compare with this run."
    table = Table(
        ["model", *R_AT, *R_AT, "source"], rows, True, faded, recall_groups(VIDEO_TO_AUDIO, AUDIO_TO_VIDEO)
    )
    return Section("Beside published figures", text, tables=[table])


def why_not_comparable(
    published: PublishedGallery, ids_sha256: str | None, num_scored: int, protocol: RetrievalProtocol
) -> str:
    """Why figures of that gallery say nothing about a score among `num_scored` clips; "" where they do.

    `ids_sha256` is that of the scored gallery, None without one; `protocol` is what the score was made by.
    """
    if published.ids_sha256 is None:
        return f"list of {published.num_clips:,} clips is not public: another gallery"
    if ids_sha256 != published.ids_sha256:
        return "another gallery"
    if num_scored < MIN_GALLERY_FRACTION * published.num_clips:
        return f"only {num_scored:,} of its {published.num_clips:,} clips here"
    return "; ".join(protocol.deviations())


def _published_row(one: PublishedRetrieval) -> list[str]:
    source = " · not comparable: ".join(filter(None, (one.source, one.differs)))
    return [one.model, *_cells(one.video_to_audio), *_cells(one.audio_to_video), source]


def _cells(recalls: Sequence[float | None]) -> list[str]:
    return ["" if one is None else f"{one:.1f}" for one in recalls]
