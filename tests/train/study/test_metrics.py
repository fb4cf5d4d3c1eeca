"""Proves the metrics of studies on embeddings whose answers are known, and the t interval by its formula."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from cavsync.pipeline.synthetic.classes import MUTE_ID
from cavsync.train.embedding.clips import ClipEmbeddings
from cavsync.train.evaluation.heatmaps.kept_object import kept_fractions, sounding_area
from cavsync.train.study.analysis import PairedDifference, StudyResults, t_interval
from cavsync.train.study.metrics import METRICS, EncodedSplit, measure

NUM_CLIPS, NUM_PAIRS, WIDTH = 12, 4, 64
# Those that need embeddings only.
OF_EMBEDDINGS = [name for name in METRICS if name != "kept-object"]


def split_of(audio: torch.Tensor, image: torch.Tensor, starts: list[int] | None = None) -> EncodedSplit:
    """(N, F, D) embeddings, with frames a second apart."""
    keys = [f"clip{number}" for number in range(len(audio))]
    embeddings = ClipEmbeddings(keys, normalize(audio, dim=-1).half(), normalize(image, dim=-1).half())
    rows = np.array(starts or [100 * pair for pair in range(audio.shape[1])])
    return EncodedSplit(
        embeddings, [np.arange(audio.shape[1]) * 1.0] * len(audio), [rows] * len(audio), torch.device("cpu")
    )


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def values(encoded: EncodedSplit) -> dict[str, float]:
    return {name: one.value for name, one in measure(OF_EMBEDDINGS, encoded).items()}


def test_equal_embeddings_score_everything() -> None:
    both = random(NUM_CLIPS, NUM_PAIRS, WIDTH)
    found = measure(OF_EMBEDDINGS, split_of(both, both))
    assert {one.value for one in found.values()} == {100.0}
    assert found["retrieval-r1"].chance == found["one-moment-r1"].chance == pytest.approx(100 / NUM_CLIPS)
    assert found["retrieval-r10"].chance == pytest.approx(1000 / NUM_CLIPS)
    assert found["within-clip"].chance == pytest.approx(25)


def test_a_model_that_knows_the_clip_and_not_the_moment_retrieves_and_is_lost_within_a_clip() -> None:
    clip = random(NUM_CLIPS, 1, WIDTH).expand(-1, NUM_PAIRS, -1)
    found = values(split_of(clip, clip))
    assert found["retrieval-r1"] == found["one-moment-r1"] == 100
    assert found["within-clip"] == 0  # all ties, which count against the model


def test_a_model_that_knows_the_moment_and_not_the_clip_is_right_within_a_clip_alone() -> None:
    moment = random(1, NUM_PAIRS, WIDTH).expand(NUM_CLIPS, -1, -1)
    found = values(split_of(moment, moment))
    assert found["within-clip"] == 100
    assert found["retrieval-r1"] == found["one-moment-r1"] == 0


def test_one_moment_counts_each_frame_with_its_own_segment_among_all_clips() -> None:
    audio = random(NUM_CLIPS, NUM_PAIRS, WIDTH)
    image = audio.clone()
    # In one of four moments the frames of two clips are exchanged.
    image[0, 2], image[1, 2] = audio[1, 2], audio[0, 2]
    wrong = 2 / (NUM_CLIPS * NUM_PAIRS)
    assert values(split_of(audio, image))["one-moment-r1"] == pytest.approx(100 * (1 - wrong))


def test_a_direction_counts_its_own_queries() -> None:
    image = torch.eye(3)[:, None]
    audio = image.clone()
    audio[2] = 0.9 * image[0] + 0.5 * image[2]  # this audio finds clip 0; its frame still finds it first
    found = values(split_of(audio, image))
    assert found["audio-to-video-r1"] == pytest.approx(200 / 3)
    assert found["video-to-audio-r1"] == 100
    assert found["retrieval-r1"] == pytest.approx(500 / 6)


def test_within_a_clip_is_undefined_with_one_segment() -> None:
    both = random(NUM_CLIPS, NUM_PAIRS, WIDTH)
    assert np.isnan(values(split_of(both, both, starts=[0] * NUM_PAIRS))["within-clip"])


def test_half_of_the_patches_keep_of_the_objects_what_lies_in_them() -> None:
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[0, :2] = 3  # the two left and right patches of the first row, half covered
    masks[1, :4, :4], masks[1, 4:, 4:] = 1, 10  # the first and the last patch
    masks[2, :4] = MUTE_ID
    area = sounding_area(masks, (2, 2))
    assert area.tolist() == [[0.5, 0.5, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    priority = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]])
    found = kept_fractions(priority, area)
    assert found[:2].tolist() == [1, 0.5]
    assert found[2].isnan()  # a mute object is none
    assert kept_fractions(-priority, area)[:2].tolist() == [0, 0.5]


def test_without_ranks_what_is_kept_is_undefined_and_chance_is_a_half() -> None:
    both = random(NUM_CLIPS, NUM_PAIRS, WIDTH)
    found = measure(["kept-object"], split_of(both, both))["kept-object"]
    assert np.isnan(found.value)
    assert found.chance == 50


def test_the_interval_is_that_of_the_t_distribution() -> None:
    found = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # 2.776 is the 97.5 % quantile of t with 4 degrees of freedom; the deviation is the root of 2.5.
    half = 2.776445 * np.sqrt(2.5 / 5)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))
    assert t_interval([2.0]).low is None
    assert (t_interval([2.0, 2.0]).low, t_interval([2.0, 2.0]).high) == (2, 2)
    assert np.isnan(t_interval([]).value)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1.0, 1.2, 0.9], "higher"),
        ([-1.0, -1.2, -0.9], "lower"),
        ([1.0, -1.2, 0.3], "no difference shown"),
        ([0.0, 0.0], "no difference shown"),
        ([5.0], "one seed: no interval"),
        ([], "no value"),
    ],
)
def test_a_null_result_is_named_as_plainly_as_another(differences: list[float], verdict: str) -> None:
    assert PairedDifference(t_interval(differences), dict(enumerate(differences))).verdict == verdict


def test_an_arm_has_its_own_chance_level_and_the_study_one_only_where_arms_share_it() -> None:
    results = StudyResults(SimpleNamespace())  # type: ignore[arg-type]
    rows = [("short", "within", 6.25), ("long", "within", 9.09), ("short", "r1", 0.78), ("long", "r1", 0.78)]
    results.__dict__["scores"] = pd.DataFrame(rows, columns=["arm", "metric", "chance"])
    assert (results.chance("within", "short"), results.chance("within", "long")) == (6.25, 9.09)
    assert results.chance("within") is None
    assert results.chance("r1") == results.chance("r1", "long") == 0.78
    assert results.chance("none") is None
