"""The YAML at the head of a card, by which dataset hubs and Hugging Face's datasets know what lies where."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import GAP_COLUMNS
from cavsync.train.dataset_card.facts import CardFacts

# The only table that a head can name: its files decide for the whole folder how files are read.
CLIPS = "clips"
# The hub's names for how many rows a dataset has: below each bound.
SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
}


def front_matter(facts: CardFacts) -> str:
    """YAML between its two lines of dashes, which names no licence where none was given."""
    size = next((name for bound, name in SIZES.items() if facts.num_ok < bound), "100M<n<1B")
    tasks = ["audio-classification", "video-classification"] if facts.statistics.clips_per_label else []
    data = DatasetCardData(
        pretty_name=facts.name,
        license=facts.license,
        task_categories=[*tasks, "feature-extraction"],
        size_categories=[size],
        tags=["audio-visual", "webdataset", "cavsync"],
        configs=[_config(facts)],
        dataset_info={"config_name": CLIPS, "features": _features(facts)},
    )
    return f"---\n{data.to_yaml()}\n---"


def _config(facts: CardFacts) -> Mapping[str, Any]:
    # The digits keep a split apart from one whose name goes on.
    files = [
        {"split": loaded, "path": f"shards/{split}-[0-9][0-9][0-9][0-9][0-9]*.tar"}
        for split, loaded in facts.loaded_splits.items()
    ]
    return {"config_name": CLIPS, "data_files": files, "default": True}


def _features(facts: CardFacts) -> list[Mapping[str, Any]]:
    """The members of a clip with their types, which are otherwise taken from the first clips of a tar."""
    num_frames = facts.config.get("num_frames", PrepareConfig.num_frames)
    texts = {name: {"dtype": "string"} for name in ("key", "clip_id", "split")}
    numbers = {name: {"dtype": "float64"} for name in ("start_s", "end_s", "duration_s")}
    lists = {"frame_pts_s": {"list": "float64"}, "labels": {"list": "string"}}
    gaps = {name: {"list": {"list": "float64"}} for name in GAP_COLUMNS}
    described = (texts | numbers | lists | gaps).items()
    return [
        *({"name": f"{frame:02d}.jpg", "dtype": "image"} for frame in range(num_frames)),
        {"name": "json", "struct": [{"name": name, **kind} for name, kind in sorted(described)]},
        {"name": "mel.npy", "list": {"list": "float16"}},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]
