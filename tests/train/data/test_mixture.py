"""Proves how several datasets are trained on as one: shares of an epoch, statistics, the identity of clips, refusals, resume."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import micro_model, micro_run, read_image, write_known_shards
from support.labelled_shards import CLASSES, micro_finetuning, pretrained, write_labelled_shards
from support.trainings import Calls

from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.config import DataConfig
from cavsync.train.data.mixture.shares import Shares
from cavsync.train.data.pair_rule import SampleIndex
from cavsync.train.data.pairs import ClipPairs
from cavsync.train.data.sampler import Epochs, Position, ShuffledBatches
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.engine.run_folder import RunError
from cavsync.train.finetune.trainer import finetune
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.trainer import open_source, pretrain

CPU = torch.device("cpu")
SIZES, TOTAL = (12, 8), 20


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """12 clips and 8 clips, whose keys are those of the first 8, with other statistics."""
    folder = tmp_path_factory.mktemp("several")
    first = write_known_shards(folder / "one", num_clips=12, clips_per_shard=5)
    second = write_known_shards(folder / "two", num_clips=8, clips_per_shard=3)
    change(second, mel_mean=-3.0, mel_std=2.0)
    return str(first), str(second)


def change(dataset: Path, **values: Any) -> None:
    """Sets keys of dataset.json."""
    summary = dataset / "dataset.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | values))


def run_on(paths: tuple[str, ...], source: str = "index", **data: Any) -> PretrainConfig:
    config = micro_run(Path(), batch_size=4, num_steps=6)
    return replace(config, data=replace(config.data, path=paths, source=source, **data))


def draws(config: PretrainConfig, count: int, rank: int = 0, num_ranks: int = 1, start: int = 0) -> list[str]:
    """The keys of this rank's part of `count` batches, from the batch `start` on."""
    source = open_source(config)
    position = Epochs(len(source), config.batch_size, config.seed).position_after(start)
    with closing(source.batches(position, Ranks(rank, num_ranks), CPU)) as batches:
        return [key for batch in islice(batches, count) for key in batch["key"]]


def dataset_counts(keys: list[str]) -> dict[str, int]:
    return dict(Counter(key.partition("/")[0] for key in keys))


# What an epoch is


def orders(shares: Shares, num_epochs: int, apart: int = 4) -> Iterator[tuple[int, int]]:
    """(pass, clip) of the epochs, in order."""
    for epoch in range(num_epochs):
        passes, clips = shares.draws(3, epoch, apart)
        yield from zip(passes.tolist(), clips.tolist(), strict=True)


@pytest.mark.parametrize(
    ("weights", "drawn"),
    [([1, 3], (5, 15)), ([0.7, 0.3], (14, 6)), ([12, 8], SIZES), ([1.0, 1.02], (10, 10)), (None, SIZES)],
)
def test_an_epoch_takes_the_shares_that_the_weights_say(weights: list[float] | None, drawn: Any) -> None:
    shares = Shares.of(SIZES, weights, ["one", "two"])
    assert shares.drawn == drawn
    for epoch in range(5):
        clips = shares.draws(0, epoch, 4)[1]
        assert (sum(clips < 12), sum(clips >= 12)) == drawn


def test_every_clip_of_a_dataset_comes_before_one_comes_again() -> None:
    """12 epochs of 5 of 12 clips are 5 passes, 8 epochs of 15 of 8 are 15; no visit of a clip repeats another's number."""
    shares = Shares.of(SIZES, [1, 3], ["one", "two"])
    found = list(orders(shares, 24))
    assert len(set(found)) == len(found)
    for low, high in ((0, 12), (12, 20)):
        own = [clip for _, clip in found if low <= clip < high]
        size = high - low
        for start in range(0, len(own), size):
            assert sorted(own[start : start + size]) == list(range(low, high))


def test_two_visits_of_a_clip_are_a_batch_apart() -> None:
    """A dataset of 30 clips of which an epoch takes 60: within its own draws at least 8 lie between two visits."""
    shares = Shares.of((60, 30), [1, 2], ["one", "two"])
    own = [clip for _, clip in orders(shares, 20, apart=8) if clip >= 60]
    last: dict[int, int] = {}
    for at, clip in enumerate(own):
        assert at - last.get(clip, -100) > 8
        last[clip] = at


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    shares = Shares.of(SIZES, [1, 3], ["one", "two"])
    fourth = shares.draws(3, 4, 4)[1]
    assert np.array_equal(fourth, Shares.of(SIZES, [1, 3], ["one", "two"]).draws(3, 4, 4)[1])
    assert not np.array_equal(fourth, shares.draws(3, 5, 4)[1])
    assert not np.array_equal(fourth, shares.draws(4, 4, 4)[1])


def test_a_single_dataset_keeps_its_order() -> None:
    """With one path nothing of the mixture is asked: the order is that of ShuffledBatches without shares."""
    plain = list(islice(ShuffledBatches(12, 4, Position(0, 0, 0)), 6))
    expected = np.random.default_rng((2, 0, 1)).permutation(12)  # stream 2, seed 0, epoch 1
    assert [sample.clip for batch in plain[3:] for sample in batch] == expected.tolist()
    assert {sample.epoch for batch in plain[3:] for sample in batch} == {1}


# The loaders


@pytest.mark.parametrize("source", ["index", "stream"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_weights_an_epoch_has_every_clip_of_each_once(
    paths: tuple[str, str], source: str, num_workers: int
) -> None:
    found = draws(run_on(paths, source, num_workers=num_workers), 5)
    expected = [f"one/clip{n:03d}_00000000" for n in range(12)] + [
        f"two/clip{n:03d}_00000000" for n in range(8)
    ]
    assert sorted(found) == expected


@pytest.mark.parametrize("source", ["index", "stream"])
def test_weights_decide_how_many_clips_of_each_an_epoch_has(paths: tuple[str, str], source: str) -> None:
    found = draws(run_on(paths, source, weights=(1.0, 3.0)), 20)
    for epoch in range(4):
        assert dataset_counts(found[epoch * TOTAL : (epoch + 1) * TOTAL]) == {"one": 5, "two": 15}


@pytest.mark.parametrize(
    ("weights", "complete", "num_pairs"),
    [(None, ("one", "two"), 80), ((12.0, 8.0), ("one", "two"), 80), ((1.0, 1.0), ("two",), 40)],
)
def test_streamed_pairs_are_those_of_the_index(
    paths: tuple[str, str], weights: Any, complete: tuple[str, ...], num_pairs: int
) -> None:
    """The pairs of four epochs, of the datasets whose passes are complete then: the same frames and random numbers,
    whichever way they are read."""
    pairs: dict[str, Counter[tuple[str, int, float]]] = {}
    for source in ("index", "stream"):
        config = run_on(paths, source, weights=weights, image_augmentation=False, audio_noise=False)
        opened = open_source(config)
        with closing(opened.batches(Position(config.seed, 0, 0), Ranks(), CPU)) as batches:
            pairs[source] = Counter(
                (key, int(frame), float(noise[0]))
                for batch in islice(batches, 20)
                for key, frame, noise in zip(batch["key"], batch["frame"], batch["noise_audio"], strict=True)
                if key.startswith(complete)
            )
    assert pairs["index"] == pairs["stream"]
    assert pairs["index"].total() == len(pairs["index"]) == num_pairs


@pytest.mark.parametrize("source", ["index", "stream"])
def test_ranks_and_workers_share_the_clips_of_an_epoch_out(paths: tuple[str, str], source: str) -> None:
    config = run_on(paths, source, weights=(12.0, 8.0), num_workers=2)
    found = [draws(config, 5, rank, 2) for rank in range(2)]
    assert [len(keys) for keys in found] == [10, 10]
    assert len({*found[0], *found[1]}) == TOTAL


@pytest.mark.parametrize("source", ["index", "stream"])
@pytest.mark.parametrize("start", [1, 5, 7])
def test_reading_goes_on_where_it_was_left(paths: tuple[str, str], source: str, start: int) -> None:
    config = run_on(paths, source, weights=(1.0, 3.0), num_workers=2)
    assert draws(config, 10)[4 * start :] == draws(config, 10 - start, start=start)


def test_a_clip_is_known_by_its_dataset_and_its_key(paths: tuple[str, str]) -> None:
    clips = ClipPairs(run_on(paths, image_augmentation=False).data, micro_model(), seed=0)
    for number, key, clip in ((3, "one/clip003", 3), (15, "two/clip003", 3), (19, "two/clip007", 7)):
        item = clips[SampleIndex(0, number)]
        assert item["key"] == f"{key}_00000000"
        assert read_image(item["image"])[0] == clip


# Statistics


def test_statistics_are_those_of_the_mixture() -> None:
    """Against numbers drawn from two datasets and pooled in the proportion of the weights."""
    from cavsync.train.data.mixture.datasets import mixed_statistics

    rng = np.random.default_rng(0)
    one, two = rng.normal(-5, 4, 3000), rng.normal(1, 0.5, 7000)

    class Summary:
        def __init__(self, values: np.ndarray) -> None:
            self.summary = {"mel_mean": float(values.mean()), "mel_std": float(values.std())}

    pooled = np.concatenate([one, two])
    found = mixed_statistics([Summary(one), Summary(two)], np.array([0.3, 0.7]))  # type: ignore[list-item]
    assert found == pytest.approx((pooled.mean(), pooled.std()))


@pytest.mark.parametrize(("weights", "part"), [(None, 0.6), ((1.0, 3.0), 0.25)])
@pytest.mark.parametrize("source", ["index", "stream"])
def test_a_run_is_normalised_by_the_shares(
    paths: tuple[str, str], source: str, weights: Any, part: float
) -> None:
    data = open_source(run_on(paths, source, weights=weights)).config
    mean = part * -5 + (1 - part) * -3
    variance = part * (16 + 25) + (1 - part) * (4 + 9) - mean**2
    assert (data.mel_mean, data.mel_std) == pytest.approx((mean, variance**0.5))
    assert data.pad_value == data.mel_mean


# Refusals


def test_datasets_prepared_otherwise_are_refused_by_field(tmp_path: Path) -> None:
    for name, config in (
        ("a", {"frame_size": 224, "num_frames": 16}),
        ("b", {"frame_size": 256, "num_frames": 8}),
    ):
        change(write_known_shards(tmp_path / name, num_clips=2), config=config)
    both = (str(tmp_path / "a"), str(tmp_path / "b"))
    for source in ("index", "stream"):
        with pytest.raises(DatasetError) as caught:
            open_source(run_on(both, source))
        for part in (f"frame_size is 224 in {both[0]} and 256 in {both[1]}", "num_frames is 16"):
            assert part in str(caught.value)
    change(tmp_path / "b", config={"frame_size": 224, "num_frames": 8})
    assert len(open_source(run_on(both, num_frames=4))) == 4  # of both the same number is used


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ("a", "a")}, "path names a twice"),
        ({"path": ()}, "names no dataset"),
        ({"path": ("a", "b"), "weights": (1.0,)}, "1 numbers, and path names 2"),
        ({"path": "a", "weights": (1.0, 2.0)}, "2 numbers, and path names 1"),
        ({"path": ("a", "b"), "weights": (1.0, 0.0)}, "must be positive"),
        ({"path": ("a", "b"), "weights": (1.0, float("nan"))}, "must be positive"),
        ({"path": ("a", "s3://bucket/b")}, "is a URL"),
        ({"path": ("a", "b"), "keep": "x > 1", "scores": "one.parquet"}, "one file for each dataset"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**fields)


def test_a_weight_that_gives_no_clip_is_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(DatasetError, match=rf"gives {paths[1]} a weight of 0.001"):
        open_source(run_on(paths, weights=(1.0, 0.001)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data/a", "data/a"),
        ("with, comma", "with, comma"),
        ("[data/a, data/b]", ("data/a", "data/b")),
        ('["a, b", c]', ("a, b", "c")),
    ],
)
def test_a_list_in_brackets_names_several(text: str, expected: Any) -> None:
    config = apply_overrides(micro_run(Path("x")), [f"data.path={text}"])
    assert config.data.path == expected


# Choosing clips of each


def test_a_condition_and_its_scores_hold_for_each_dataset(paths: tuple[str, str], tmp_path: Path) -> None:
    """The clips of odd numbers score high in one file, those of even numbers in the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for number, size in enumerate(SIZES):
        keys = [f"clip{clip:03d}_00000000" for clip in range(size)]
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"key": keys, "good": [clip % 2 != number for clip in range(size)]}), file)
        files.append(str(file))
    for source in ("index", "stream"):
        config = run_on(paths, source, keep="good", scores=tuple(files))
        opened = open_source(config)
        assert (opened.shares.sizes, opened.num_left_out) == ((6, 4), 10)
        parts = {(key[:3], int(key[8:11]) % 2) for key in draws(replace(config, batch_size=2), 5)}
        assert parts == {("one", 1), ("two", 0)}


# Runs


class StopError(Exception):
    pass


def stopping_after(step: int) -> Calls:
    def stop(metrics: Any) -> None:
        if metrics.step == step:
            raise StopError

    return Calls(on_step=stop)


@pytest.mark.parametrize("source", ["index", "stream"])
def test_a_stopped_run_ends_with_the_same_weights(
    paths: tuple[str, str], source: str, tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch, bit for bit; with source=index also where other processes read."""
    config = run_on(paths, source, weights=(1.0, 3.0), mel_mean=-4.0, mel_std=3.0)
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    parts = replace(config, checkpoint_every_steps=1)
    with pytest.raises(StopError):
        pretrain(parts, tmp_path / "parts", device="cpu", callbacks=[stopping_after(3)])
    reading = replace(parts.data, num_workers=2 if source == "index" else 0)
    resumed = pretrain(replace(parts, data=reading), tmp_path / "parts", device="cpu", resume=True)
    assert whole.weights is not None
    assert resumed.weights is not None
    one, two = load_file(whole.weights), load_file(resumed.weights)
    assert all(one[name].equal(two[name]) for name in one)
    swapped = replace(config, data=replace(config.data, path=paths[::-1], weights=(1.0, 3.0)))
    with pytest.raises(RunError, match="Give the same datasets in the same order"):
        pretrain(swapped, tmp_path / "whole", device="cpu", resume=True)


def test_a_run_reports_shares_and_keys_that_two_datasets_have(paths: tuple[str, str], tmp_path: Path) -> None:
    found: list[Any] = []
    config = replace(run_on(paths, weights=(1.0, 3.0)), num_steps=1)
    pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_start=found.append)])
    (facts,) = found
    assert [(share.path, share.num_clips, share.num_drawn) for share in facts.shares] == [
        (paths[0], 12, 5),
        (paths[1], 8, 15),
    ]
    assert facts.num_repeated_keys == 8


def test_a_classifier_learns_from_datasets_of_the_same_classes(tmp_path: Path) -> None:
    """The second lists its classes in another order, so that its targets must be found by name."""
    one = write_labelled_shards(tmp_path / "one")
    two = write_labelled_shards(tmp_path / "two", classes=CLASSES[::-1])
    weights = pretrained(tmp_path)
    config = micro_finetuning(one, weights, "average_epochs=none", "num_epochs=1")
    config = replace(config, data=replace(config.data, path=(str(one), str(two)), weights=(1.0, 3.0)))
    found: list[Any] = []
    result = finetune(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_start=found.append)])
    assert (found[0].num_clips, found[0].num_classes, result.step) == (16, 3, 4)
    assert [share.num_drawn for share in found[0].shares] == [4, 12]
    change(two, labels=["dark", "bright", "blinking"])
    with pytest.raises(DatasetError) as caught:
        finetune(config, tmp_path / "other", device="cpu")
    assert "never only in" in str(caught.value)
    assert str(one) in str(caught.value)
