"""Writes a world as an audio-prompted segmentation set in the published layout of ADE20K_Sound.

Images are frames of the world's test clips, annotations are their masks, and prompts are the audio of solo clips: one
class alone, at another pitch and level than in the frame.
"""

import csv
import io
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import EvenFrames, SegmentRequest
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.pipeline.synthetic.audio import render_audio
from cavsync.pipeline.synthetic.classes import CLASS_IDS, CLASSES
from cavsync.pipeline.synthetic.clip import list_clip
from cavsync.pipeline.synthetic.config import WorldConfig, WorldError
from cavsync.pipeline.synthetic.masks import on_screen, read_masks
from cavsync.pipeline.synthetic.timeline import plan_clip
from cavsync.pipeline.synthetic.world import read_world

FrameSelection = Literal["all", "multi-object"]

LIST_NAME = "prompted_segmentation.csv"
COLUMNS = ("image_location", "ade_class", "ade_class_id", "vggsound_file")
# A class counts as visible from this fraction of the frame on.
MIN_VISIBLE_FRACTION = 0.0043
PROMPTS_PER_CLASS = 8
NUM_FRAMES = 16


@dataclass(frozen=True)
class _Target:
    """A class to segment in one frame of a clip, where it is visible."""

    clip: int
    frame: int
    class_name: str


def write_prompted(
    world: Path,
    out: Path,
    *,
    selection: FrameSelection = "multi-object",
    rows_per_class: int = 12,
    seed: int = 0,
) -> int:
    """Writes `out/prompted_segmentation.csv`, frames/, annotations/ and audio/; returns the number of rows.

    `multi-object` selects frames that show two sounding classes or more. Equal arguments give equal rows. Raises
    WorldError where the world holds no masks of its test clips.
    """
    truth = read_world(world)
    clips = [clip for clip in truth["clips"] if clip["masks"]]
    if not clips:
        raise WorldError(f"{world} holds no masks: make it with test clips and masked_splits=('test',).")
    config = _config(truth)
    random = np.random.default_rng(seed)
    targets = _draw(_visible(world, clips, config.duration_s, selection), rows_per_class, random)
    for folder in ("frames", "annotations", "audio"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    with DecoderProcess() as decoder:
        for number in sorted({target.clip for target in targets}):
            of_clip = [target for target in targets if target.clip == number]
            frames = sorted({target.frame for target in of_clip})
            _write_images(world, out, clips[number], frames, config, decoder)
            for target in of_clip:
                solo = int(random.integers(PROMPTS_PER_CLASS))
                prompt = _write_prompt(config, out, target.class_name, solo)
                image = f"{_stem(clips[number], target.frame)}.jpg"
                rows.append((image, target.class_name, CLASS_IDS[target.class_name], prompt))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *rows])
    write_atomically(out / LIST_NAME, text.getvalue().encode())
    return len(rows)


def _config(truth: dict[str, Any]) -> WorldConfig:
    stored = {name: value for name, value in truth["config"].items() if name != "version"}
    return WorldConfig(**stored | {"masked_splits": tuple(stored["masked_splits"])})


def _visible(
    world: Path, clips: list[dict[str, Any]], duration_s: float, selection: FrameSelection
) -> list[_Target]:
    """Every visible class in every selected frame of every clip."""
    found = []
    for number, clip in enumerate(clips):
        times_s, masks = read_masks(world / clip["masks"])
        shown = on_screen(times_s, frame_times_s(duration_s, NUM_FRAMES))
        for frame, mask in enumerate(masks[shown]):
            counts = np.bincount(mask.ravel(), minlength=256)
            names = [name for name, i in CLASS_IDS.items() if counts[i] >= MIN_VISIBLE_FRACTION * mask.size]
            if selection == "all" or len(names) > 1:
                found += [_Target(number, frame, name) for name in names]
    return found


def _draw(targets: list[_Target], rows_per_class: int, random: np.random.Generator) -> list[_Target]:
    """At most `rows_per_class` random targets of each class, in the order of CLASSES."""
    shuffled = [targets[index] for index in random.permutation(len(targets))]
    return [
        target
        for sounding in CLASSES
        for target in [one for one in shuffled if one.class_name == sounding.name][:rows_per_class]
    ]


def _write_images(
    world: Path,
    out: Path,
    clip: dict[str, Any],
    frames: list[int],
    config: WorldConfig,
    decoder: DecoderProcess,
) -> None:
    """Write frames as `cavsync prepare` takes them from the video, each with its own mask."""
    request = SegmentRequest(
        world / clip["video"], 0.0, config.duration_s, EvenFrames(NUM_FRAMES), config.side_px
    )
    begins_s, jpegs = zip(*decoder.read(request).shown, strict=True)
    times_s, masks = read_masks(world / clip["masks"])
    shown = on_screen(times_s, np.array(begins_s))
    for frame in frames:
        stem = _stem(clip, frame)
        (out / f"frames/{stem}.jpg").write_bytes(jpegs[frame])
        Image.fromarray(_ade20k_colours(masks[shown[frame]])).save(out / f"annotations/{stem}_seg.png")


def _ade20k_colours(mask: np.ndarray) -> np.ndarray:
    """(height, width) ids -> (height, width, 3): id = floor(red / 10) * 256 + green; blue numbers the instances."""
    ids = mask.astype(np.int32)
    return np.stack([ids // 256 * 10, ids % 256, ids > 0], axis=-1).astype(np.uint8)


def _write_prompt(config: WorldConfig, out: Path, class_name: str, number: int) -> str:
    """Write the audio of a solo clip of that class; its number defines it, so the world need not hold it."""
    solo = number * len(CLASSES) + list(CLASS_IDS).index(class_name)
    name = f"{list_clip(config, 'solo', solo).stem}.wav"
    if not (out / "audio" / name).exists():
        waveform = render_audio(config, plan_clip(config, "solo", solo), config.random("solo", solo, 3))
        write_wav(out / "audio" / name, waveform, config.sample_rate_hz)
    return name


def write_wav(path: Path, waveform: np.ndarray, rate_hz: int) -> None:
    """Write (samples,) in [-1, 1] as 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((waveform * 32767).round().astype("<i2").tobytes())


def _stem(clip: dict[str, Any], frame: int) -> str:
    return f"{clip['id']}_{clip['start_s']:06d}_{frame:02d}"
