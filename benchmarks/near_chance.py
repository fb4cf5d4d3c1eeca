"""What retrieval finds on the small world without anything learnt, which is the level that a control must be compared with.

    python -m benchmarks.near_chance [--draws N] [--seed N]

Each of the world's ten classes gets a random vector for its image and another, independent one for its audio. A frame, and an audio
segment, is the sum of the vectors of what is there, and noise. So image and audio share nothing but the times at which things
begin and end. Retrieval is by diagonal-mean over 16 moments, as everywhere.
"""

import numpy as np
import typer
from torch import Tensor, arange, from_numpy
from torch.nn.functional import normalize

from benchmarks.support import results
from cavsync.pipeline.synthetic.classes import CLASSES
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.timeline import plan_clip
from cavsync.train.evaluation.retrieval.metrics import retrieve

NUM_CLIPS, NUM_FRAMES, WIDTH = 128, 16, 64
# How much there is in a moment, and in the images of a clip, that has nothing to do with classes.
OTHER = 0.3


def main(draws: int = 300, seed: int = 0) -> None:
    random, present = np.random.default_rng(seed), presence()
    drawn = [embeddings(present, random) for _ in range(draws)]
    among_clips = [
        retrieve(audio, image, "diagonal-mean").audio_to_video.recalls[1].value for audio, image in drawn
    ]
    within = [recall_within_clips(audio, image) for audio, image in drawn]
    rows = [
        *described("R@1 among 128 clips", among_clips, 100 / NUM_CLIPS, NUM_CLIPS),
        *described("frame → window within a clip", within, 100 / NUM_FRAMES, NUM_CLIPS * NUM_FRAMES),
    ]
    results.publish("near_chance", f"Retrieval without learning, {draws} draws, seed {seed}", rows)


def described(what: str, found: list[float], chance: float, num_queries: int) -> list[results.Row]:
    """Mean, deviation and greatest value of the draws, in %, beside those of independent queries at chance."""
    deviation = float(np.sqrt(chance * (100 - chance) / num_queries))
    figures = {
        "mean of the draws": np.mean(found),
        "deviation of the draws": np.std(found),
        "greatest of the draws": np.max(found),
        "chance": chance,
        "deviation of independent queries at chance": deviation,
    }
    return [
        results.Row(what=f"{what}: {name}", values=[float(value)], unit="%")
        for name, value in figures.items()
    ]


def presence() -> np.ndarray:
    """(clips, frames, classes): how much of each class there is in each frame's part of a test clip."""
    world = WorldConfig(num_test=NUM_CLIPS)
    times_s = (np.arange(NUM_FRAMES) + 0.5) * world.duration_s / NUM_FRAMES
    present = np.zeros((NUM_CLIPS, NUM_FRAMES, len(CLASSES)))
    for clip in range(NUM_CLIPS):
        for turn in plan_clip(world, "test", clip).turns:
            present[clip, :, turn.class_index] += turn.presence(times_s)
    return present


def embeddings(present: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Audio and images of (clips, frames, classes), (clips, frames, width) each, with new vectors for the classes."""
    of_audio, of_image = random.normal(size=(2, len(CLASSES), WIDTH))
    moments = OTHER * random.normal(size=(2, NUM_CLIPS, NUM_FRAMES, WIDTH))
    background = OTHER * random.normal(size=(NUM_CLIPS, 1, WIDTH))
    audio, image = present @ of_audio + moments[0], present @ of_image + moments[1] + background
    return from_numpy(audio).float(), from_numpy(image).float()


def recall_within_clips(audio: Tensor, image: Tensor) -> float:
    """How often, in %, a frame is most similar to its own audio segment among those of its clip."""
    similarity = normalize(image, dim=-1) @ normalize(audio, dim=-1).transpose(1, 2)
    return 100 * float((similarity.argmax(dim=2) == arange(NUM_FRAMES)).float().mean())


if __name__ == "__main__":
    typer.run(main)
