"""The card of a dataset: README.md with its images, and croissant.json."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cavsync.pipeline.dataset.clip_notes import note_text
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, NUM_MELS, SAMPLE_RATE_HZ, ClipState
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.dataset_card.croissant import croissant
from cavsync.train.dataset_card.facts import CardFacts, sample_clips
from cavsync.train.dataset_card.front_matter import front_matter
from cavsync.train.reporting.contact_sheet import clip_plot, sheet
from cavsync.train.reporting.dataset_plots import dataset_plots

CARD_NAME, CROISSANT_NAME, IMAGES = "README.md", "croissant.json", "card"
CLIPS_NAME = "clips.png"
MAX_LABELS = 1000  # with their counts
TO_FILL_IN = "**TO BE FILLED IN by the publisher of this dataset**"
CAPTIONS = {
    "states.png": "Clips by state",
    "labels.png": "Clips by label",
    "durations.png": "Durations of the clips in state ok",
    "sources.png": "The files that the clips come from",
    "mel.png": "Log-mel by mel bin",
}
LOADING = """```python
import datasets

# FOLDER is this folder, or ORG/NAME where it was uploaded to the Hugging Face hub.
clips = datasets.load_dataset("FOLDER", split="{split}", streaming=True)
clip = next(iter(clips))
frame, mel, about = clip["00.jpg"], clip["mel.npy"], clip["json"]
```

```python
# Every listed clip, also those that are not in state ok.
table = datasets.load_dataset("parquet", data_files="FOLDER/index/*.parquet", split="train")
```

```python
from glob import glob

import webdataset

clips = webdataset.WebDataset(sorted(glob("FOLDER/shards/*.tar")), shardshuffle=False).decode("pil")
```

```python
import cavsync

dataset = cavsync.Dataset.open("FOLDER")
rows = dataset.index("all")
```"""
TRAINING = """```sh
cavsync train pretrain --data FOLDER
cavsync train pretrain --data hf://datasets/ORG/NAME --set data.source=stream
```"""


def write_card(facts: CardFacts, out: Path, num_clips: int) -> Path:
    """Writes the card with an image of `num_clips` clips into the folder `out`; returns README.md.

    Raises DatasetError for an unfinished dataset.
    """
    plots = dict(dataset_plots(facts.statistics))
    text = "\n\n".join([front_matter(facts), *_sections(facts, list(plots))]) + "\n"
    if clips := sample_clips(facts.inventory, num_clips):
        drawn = [clip_plot(clip.row.clip, clip.stored) for clip in clips if clip.row.clip and clip.stored]
        plots[CLIPS_NAME] = sheet(clips, drawn)
    for name, content in plots.items():
        write_atomically(out / IMAGES / name, content)
    described = croissant(facts, _lead(facts))
    write_atomically(
        out / CROISSANT_NAME, (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode()
    )
    write_atomically(out / CARD_NAME, text.encode())
    return out / CARD_NAME


def _sections(facts: CardFacts, plots: Sequence[str]) -> Iterator[str]:
    yield f"# {facts.name}"
    yield f"{_lead(facts)}\n\n![Frames and log-mel of some clips]({IMAGES}/{CLIPS_NAME})"
    yield f"* Licence: {facts.license or TO_FILL_IN}\n* Source of the videos: {facts.source or TO_FILL_IN}"
    yield f"## Clips\n\n{_states(facts)}"
    if facts.statistics.clips_per_label:
        yield f"## Labels\n\n{_labels(facts.statistics.clips_per_label)}"
    yield f"## How it was prepared\n\n{_preparation(facts)}"
    yield f"## Figures\n\n{_figures(facts, plots)}"
    split = next(iter(facts.loaded_splits.values()), "train")
    loading = LOADING.format(split=split)
    yield f"## How to load it\n\n{loading}\n\n{TRAINING}"
    yield f"## What lies where\n\n{_layout()}"


def _lead(facts: CardFacts) -> str:
    """Plain text, for the Croissant description too."""
    config = facts.config
    return (
        f"{facts.num_ok:,} audio-visual clips, {facts.statistics.ok_hours:,.2f} hours, of {facts.statistics.num_listed:,} "
        f"that were listed. A clip has {config.get('num_frames', '?')} frames (JPEG, {config.get('frame_size', '?')} pixels "
        f"on the short side) and the log-mel of its whole audio, on one clock."
    )


def _states(facts: CardFacts) -> str:
    """Splits below each other, states beside each other."""
    totals = facts.inventory.states()
    states = [str(ClipState.OK), *(state for state in totals if state != ClipState.OK)]
    rows = [
        (split, role, *(f"{facts.states[split].get(state, 0):,}" for state in states))
        for split, role in facts.summary["splits"].items()
    ]
    total = ("all", "", *(f"{totals.get(state, 0):,}" for state in states))
    text = "Every listed clip ends in one state; those in state `ok` are in the shards."
    return f"{text}\n\n{_table(('split', 'role', *states), [*rows, total])}"


def _labels(clips: Mapping[str, int]) -> str:
    shown = list(clips.items())[:MAX_LABELS]
    rows = [(label, f"{count:,}") for label, count in shown]
    rest = "" if len(shown) == len(clips) else f"\n\nThe first {len(shown):,} are shown; all are in `index/`."
    summary = f"<summary>Clips in state ok of each of {len(clips):,} labels</summary>"
    return f"<details>{summary}\n\n{_table(('label', 'clips'), rows)}{rest}\n\n</details>"


def _preparation(facts: CardFacts) -> str:
    text = (
        "By `cavsync prepare`. A frame is the one on screen at its instant; the "
        f"log-mel is that of one channel at {SAMPLE_RATE_HZ:,} Hz: {MEL_ROWS_PER_S} rows a second of {NUM_MELS} bins, "
        "float16, unpadded and unnormalised."
    )
    rows = [(f"`{name}`", f"`{value}`") for name, value in facts.config.items() if value is not None]
    derived = (
        " It was made of clips of other datasets: `history` in `dataset.json`."
        if facts.summary.get("history")
        else ""
    )
    return f"{text}{derived}\n\n{_table(('setting', 'value'), rows)}"


def _figures(facts: CardFacts, plots: Sequence[str]) -> str:
    statistics = facts.statistics
    mel = statistics.mel
    rows = [("hours in state ok", f"{statistics.ok_hours:,.2f}")]
    if mel.mean is not None and mel.std is not None:
        rows += [("mean of the log-mel", f"{mel.mean:.4f}"), ("deviation of the log-mel", f"{mel.std:.4f}")]
    rows += [
        (f"duration, percentile {name.removeprefix('p')}", f"{value:g} s")
        for name, value in statistics.duration_percentiles_s().items()
    ]
    rows += [(note_text(note).title, f"{len(keys):,}") for note, keys in statistics.notes.items() if keys]
    images = [f"![{CAPTIONS[name]}]({IMAGES}/{name})" for name in plots]
    return "\n\n".join([_table(("figure", "value"), rows), *images])


def _layout() -> str:
    members = "`KEY.00.jpg`, `KEY.01.jpg`, ..., `KEY.json`, `KEY.mel.npy` of each clip in state ok"
    columns = "state, reason, times, gaps, offsets in the tar, the path of its video on the machine that prepared it"
    site = "[Croissant](https://docs.mlcommons.org/croissant/)"
    rows = [
        ("`shards/SPLIT-00000.tar`", members),
        ("`index/SPLIT-00000.parquet`", f"a row for each listed clip: {columns}"),
        ("`done/`, `plan.parquet`, `dataset.json`", "what `cavsync data validate` checks the rest against"),
        (f"`{CROISSANT_NAME}`", f"a {site} description, with the hash of every shard"),
    ]
    return _table(("file", "holds"), rows)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Names of labels are data: a bar would begin another cell, a newline end the table."""
    return " ".join(text.split()).replace("|", "\\|")
