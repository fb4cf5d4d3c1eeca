"""Proves the batches: each frame with its own window, in an order that depends on seed and step only.

Images and log-mels of the synthetic shards encode which clip, frame and row they are, so each pair is checked by
arithmetic on what was received.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.known_shards import (
    CLIP_ROWS,
    NUM_FRAMES,
    micro_model,
    micro_run,
    raw_data,
    read_audio,
    read_image,
    write_known_shards,
)
from torch.utils.data import DataLoader, default_collate

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.augment import crop_and_flip, noise_and_roll
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import fit, normalise_images
from cavsync.train.data.index.checks import ShardError
from cavsync.train.data.pair_rule import SampleIndex
from cavsync.train.data.pairs import ClipAllPairs, ClipPairs
from cavsync.train.data.sampler import Epochs, Position, ShuffledBatches, TooFewClipsError
from cavsync.train.data.window import normalise_audio
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.trainer import open_source

# First rows of the 16 windows of 416 rows that published weights were trained on.
PUBLISHED_STARTS = [0, 0, 0, 0, 48, 112, 176, 240, 304, 368, 432, 496, 560, 608, 608, 608]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"))


def pairs(shards: Path, *, rows: int = 96, seed: int = 0, **data: object) -> ClipPairs:
    return ClipPairs(raw_data(shards, **data), micro_model(audio_rows=rows), seed)


def test_a_frame_comes_with_the_audio_segment_around_its_time(shards: Path) -> None:
    clips, rows = pairs(shards), 96
    for epoch in range(8):
        for clip in range(len(clips)):
            item = clips[SampleIndex(epoch, clip)]
            image_clip, frame = read_image(item["image"])
            audio_clip, start = read_audio(item["audio"])
            assert image_clip == audio_clip == clip
            assert frame == item["frame"]
            # Row r is centred 12.5 ms after 10 r ms; windows at the ends are shifted inward.
            middle_s = (start + (rows - 1) / 2) / 100 + 0.0125
            on_screen_s = (frame + 0.5) * CLIP_ROWS / 100 / NUM_FRAMES
            at_end = start in (0, CLIP_ROWS - rows)
            assert abs(middle_s - on_screen_s) <= (rows / 200 if at_end else 0.005)


def test_upstream_alignment_gives_the_windows_of_published_weights(shards: Path) -> None:
    clips = ClipAllPairs(raw_data(shards, alignment="upstream"), micro_model(audio_rows=416))
    for clip in (0, 7):
        windows = clips[clip]["audio"]
        assert [read_audio(window) for window in windows] == [(clip, start) for start in PUBLISHED_STARTS]


def test_upstream_alignment_pads_the_last_windows_below_the_clip(shards: Path) -> None:
    data = raw_data(shards, alignment="upstream", mel_mean=-5.081, mel_std=4.4849, pad_value=0.0)
    last = ClipAllPairs(data, micro_model(audio_rows=416))[0]["audio"][-1]
    padding = last[CLIP_ROWS - PUBLISHED_STARTS[-1] :]
    assert padding.shape == (26, 128)
    torch.testing.assert_close(padding, torch.full_like(padding, 1.1329), atol=1e-4, rtol=0)


def test_padding_left_open_is_silent_after_normalisation(shards: Path) -> None:
    window = ClipAllPairs(DataConfig(path=str(shards)), micro_model(audio_rows=1024))[0]["audio"][0]
    assert torch.equal(window[CLIP_ROWS:], torch.zeros(26, 128))


def test_statistics_left_open_are_the_datasets_own(shards: Path) -> None:
    clips = ClipAllPairs(DataConfig(path=str(shards)), micro_model())
    assert (clips.config.mel_mean, clips.config.mel_std) == (-5.0, 4.0)
    assert clips[3]["audio"][0, 0, 0] == (3 + 5) / 4


def test_all_pairs_of_a_clip_are_those_that_training_draws_from(shards: Path) -> None:
    drawn, whole = pairs(shards), ClipAllPairs(raw_data(shards), micro_model(audio_rows=96))
    item = drawn[SampleIndex(0, 4)]
    assert torch.equal(item["audio"], whole[4]["audio"][item["frame"]])
    assert torch.equal(item["image"], whole[4]["image"][item["frame"]])
    assert whole[4]["key"] == item["key"] == "clip004_00000000"


def test_log_mel_travels_as_stored_and_is_normalised_to_the_same_bits(shards: Path) -> None:
    # Segments longer than the clip, so that there is padding too.
    model, data = micro_model(audio_rows=1024), DataConfig(path=str(shards), mel_mean=-5.1, mel_std=4.3)
    drawn, whole = ClipPairs(data, model, seed=0), ClipAllPairs(data, model)
    batch = drawn.batch([SampleIndex(0, clip) for clip in range(4)])
    assert batch["audio"].dtype == torch.float16
    expected = [whole[clip]["audio"][frame] for clip, frame in enumerate(batch["frame"])]
    assert torch.equal(normalise_audio(batch["audio"], drawn.config), torch.stack(expected))
    noisy = pairs(shards, audio_noise=True).batch([SampleIndex(0, 1)])["audio"]
    assert noisy.dtype == torch.float32
    assert normalise_audio(noisy, drawn.config) is noisy


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_step_computes_the_same_from_log_mel_as_stored(shards: Path, micro_batch: int | None) -> None:
    config = micro_run(shards, data=DataConfig(path=str(shards)), micro_batch=micro_batch)
    source = open_source(config)
    config = replace(config, data=source.config)
    batch = next(source.batches(Position(0, 0, 0), Ranks(), torch.device("cpu")))
    losses = []
    for audio in (batch["audio"], normalise_audio(batch["audio"], config.data)):
        torch.manual_seed(0)
        step = pretrain_step(config, CavMaeSync(config.model), torch.device("cpu"))
        losses.append([step(batch | {"audio": audio}, number, 1e-2).read() for number in (1, 2)])
    assert losses[0] == losses[1]


def test_clips_that_failed_are_not_read(shards: Path) -> None:
    assert list(pairs(shards).store.keys) == [f"clip{clip:03d}_00000000" for clip in range(12)]


# Clip 1 lacks .5 s of audio in two gaps, clip 7 .3 s of audio and .3 s of frames, clip 10 1 s of frames.
AUDIO_GAPS_S = {1: [(0.0, 0.2), (4.0, 4.3)], 7: [(9.68, 9.98)]}
FRAME_GAPS_S = {7: [(0.0, 0.3)], 10: [(2.0, 3.0)]}


@pytest.mark.parametrize(
    ("max_gap_s", "left_out"),
    [(None, []), (1.0, []), (0.99, [10]), (0.5, [10]), (0.49, [1, 10]), (0.3, [1, 10]), (0.0, [1, 7, 10])],
)
def test_clips_that_lack_more_than_the_limit_are_left_out(
    tmp_path: Path, max_gap_s: float | None, left_out: list[int]
) -> None:
    path = write_known_shards(tmp_path, audio_gaps_s=AUDIO_GAPS_S, frame_gaps_s=FRAME_GAPS_S)
    data = raw_data(path, max_gap_s=max_gap_s)
    pairs = ClipPairs(data, micro_model(), seed=0)
    kept = [clip for clip in range(12) if clip not in left_out]
    assert list(pairs.store.keys) == [f"clip{clip:03d}_00000000" for clip in kept]
    assert pairs.store.num_left_out == len(left_out)
    for number, clip in enumerate(kept):
        item = pairs[SampleIndex(0, number)]
        assert (read_image(item["image"])[0], read_audio(item["audio"])[0]) == (clip, clip)
    # What is scored does not depend on the limit.
    assert len(ClipAllPairs(data, micro_model())) == 12


def test_a_limit_that_leaves_no_clip_names_the_least_that_one_lacks(tmp_path: Path) -> None:
    path = write_known_shards(tmp_path, num_clips=2, frame_gaps_s={0: [(0.0, 0.5)], 1: [(0.0, 0.25)]})
    with pytest.raises(
        DatasetError, match=r"max_gap_s=0\.1 leaves no clip .* each of its 2 .* lacks 0\.25 s"
    ):
        ClipPairs(raw_data(path, max_gap_s=0.1), micro_model(), seed=0)


def test_a_negative_limit_of_gaps_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_gap_s=-1 is negative"):
        DataConfig(max_gap_s=-1)


def test_every_frame_of_a_clip_is_drawn(shards: Path) -> None:
    clips = pairs(shards)
    assert {clips[SampleIndex(epoch, 0)]["frame"] for epoch in range(200)} == set(range(NUM_FRAMES))


def test_items_are_a_function_of_seed_epoch_and_clip(shards: Path) -> None:
    augmented = {"image_augmentation": True, "audio_noise": True}
    one, same, other = (pairs(shards, seed=seed, **augmented) for seed in (3, 3, 4))
    assert equal(one[SampleIndex(1, 2)], same[SampleIndex(1, 2)])
    assert not equal(one[SampleIndex(1, 2)], other[SampleIndex(1, 2)])
    assert not equal(one[SampleIndex(1, 2)], one[SampleIndex(2, 2)])


def test_workers_give_the_items_of_one_process(shards: Path) -> None:
    clips = pairs(shards, image_augmentation=True, audio_noise=True)
    alone, shared = (list(islice(batches(clips, num_workers=workers), 5)) for workers in (0, 2))
    assert all(equal(one, two) for one, two in zip(alone, shared, strict=True))


def test_an_epoch_covers_every_clip_once() -> None:
    order = islice(ShuffledBatches(12, 4, Position(0, 0, 0)), 6)
    epochs: dict[int, list[int]] = {0: [], 1: []}
    for batch in order:
        assert len(batch) == 4
        for draw in batch:
            epochs[draw.epoch].append(draw.clip)
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_a_rest_smaller_than_a_batch_is_left_out_and_no_clip_comes_twice() -> None:
    first_epoch = [
        draw.clip for batch in islice(ShuffledBatches(11, 4, Position(0, 0, 0)), 2) for draw in batch
    ]
    assert len(set(first_epoch)) == 8
    third = next(islice(ShuffledBatches(11, 4, Position(0, 0, 0)), 2, None))
    assert {draw.epoch for draw in third} == {1}


@pytest.mark.parametrize("num_batches", [0, 1, 2, 3, 5])
def test_the_order_resumes_in_the_middle_of_an_epoch(num_batches: int) -> None:
    whole = ShuffledBatches(11, 4, Position(7, 0, 0))
    rest = ShuffledBatches(11, 4, Epochs(11, 4, seed=7).position_after(num_batches))
    assert list(islice(whole, num_batches, num_batches + 4)) == list(islice(rest, 4))


def test_ranks_divide_each_batch_and_together_see_the_same_order() -> None:
    whole = list(islice(ShuffledBatches(11, 4, Position(7, 0, 4)), 5))
    for num_ranks in (2, 4):
        parts = [
            islice(ShuffledBatches(11, 4, Position(7, 0, 4), rank, num_ranks), 5) for rank in range(num_ranks)
        ]
        assert [sum(batch, []) for batch in zip(*parts, strict=True)] == whole  # noqa: RUF017


@pytest.mark.parametrize(
    "changes", [{}, {"image_augmentation": True, "audio_noise": True}, {"pairing": "other-clip"}]
)
def test_a_batch_holds_the_items_that_are_asked_for_one_by_one(shards: Path, changes: dict[str, Any]) -> None:
    clips = pairs(shards, **changes)
    samples = [SampleIndex(2, clip) for clip in (5, 0, 11)]
    batch, items = clips.batch(samples), default_collate([clips[sample] for sample in samples])
    assert batch.keys() == items.keys()
    assert equal(batch, items)


def test_fewer_frames_of_a_clip_are_spread_over_it_with_their_own_windows(shards: Path) -> None:
    model = micro_model()
    every = ClipAllPairs(raw_data(shards), model)[3]
    some = ClipAllPairs(raw_data(shards, num_frames=4), model)[3]
    assert [read_image(image) for image in some["image"]] == [(3, 2), (3, 6), (3, 10), (3, 14)]
    torch.testing.assert_close(some["audio"], every["audio"][[2, 6, 10, 14]])
    upstream = {"alignment": "upstream"}
    every = ClipAllPairs(raw_data(shards, **upstream), model)[3]
    some = ClipAllPairs(raw_data(shards, num_frames=4, **upstream), model)[3]
    torch.testing.assert_close(some["audio"], every["audio"][[2, 6, 10, 14]])
    drawn = ClipPairs(raw_data(shards, num_frames=2), model, seed=0)
    assert {drawn[SampleIndex(epoch, 3)]["frame"] for epoch in range(30)} == {0, 1}
    assert {read_image(drawn[SampleIndex(epoch, 3)]["image"]) for epoch in range(30)} == {
        (3, 4),
        (3, 12),
    }


def test_more_frames_than_were_prepared_are_refused(shards: Path) -> None:
    with pytest.raises(DatasetError, match=r"num_frames=20, .* prepared with 16 frames: .*--num-frames 20"):
        ClipPairs(raw_data(shards, num_frames=20), micro_model(), seed=0)
    with pytest.raises(ConfigError, match="num_frames=0 must be at least 1"):
        raw_data(shards, num_frames=0)


def test_fewer_clips_than_a_batch_are_refused() -> None:
    with pytest.raises(TooFewClipsError, match=r"3 clips do not fill one batch of 4.*--batch-size 3"):
        ShuffledBatches(3, 4, Position(0, 0, 0))


def test_the_control_pairs_each_clip_with_one_other_and_no_fixed_frame(shards: Path) -> None:
    clips = pairs(shards, pairing="other-clip")
    partners, starts = [], set()
    for clip in range(len(clips)):
        items = [clips[SampleIndex(epoch, clip)] for epoch in range(6)]
        audio_clips = {read_audio(item["audio"])[0] for item in items}
        assert {read_image(item["image"])[0] for item in items} == {clip}
        assert len(audio_clips) == 1
        assert audio_clips != {clip}
        partners += audio_clips
        starts |= {(item["frame"], read_audio(item["audio"])[1]) for item in items}
    assert sorted(partners) == list(range(len(clips)))
    assert len({start for frame, start in starts if frame == 8}) > 1


def test_shuffled_segments_pair_each_frame_with_one_other_of_its_clip_and_change_nothing_else(
    shards: Path,
) -> None:
    matched, shuffled = pairs(shards), pairs(shards, pairing="shuffled-segments")
    starts = matched.store[3].window_starts(96, "time").tolist()
    partner: dict[int, int] = {}
    for epoch in range(80):
        item, right = shuffled[SampleIndex(epoch, 3)], matched[SampleIndex(epoch, 3)]
        for name in ("image", "noise_audio", "noise_image"):
            assert torch.equal(item[name], right[name])
        clip, start = read_audio(item["audio"])
        assert clip == 3
        assert partner.setdefault(item["frame"], starts.index(start)) == starts.index(start)
    assert len(partner) == NUM_FRAMES
    assert sorted(partner.values()) == list(range(NUM_FRAMES))
    assert all(frame != other for frame, other in partner.items())
    another = pairs(shards, pairing="shuffled-segments")
    of_clip_5 = {
        item["frame"]: starts.index(read_audio(item["audio"])[1])
        for item in (another[SampleIndex(epoch, 5)] for epoch in range(20))
    }
    assert of_clip_5 != {frame: partner[frame] for frame in of_clip_5}


def test_frames_of_another_size_are_resized_whole(shards: Path) -> None:
    striped = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1).permute(1, 2, 0)
    half = fit(striped, 32)
    assert half.shape == (32, 32, 3)
    torch.testing.assert_close(half[16, 1:-1, 0].float(), torch.arange(2.5, 62, 2), atol=1.0, rtol=0)
    assert fit(striped, 64) is striped
    assert fit(torch.zeros(40, 64, 3, dtype=torch.uint8), 32).shape == (32, 32, 3)


def test_augmentation_keeps_shapes_and_changes_content() -> None:
    rng = np.random.default_rng(0)
    image = torch.randint(256, (40, 48, 3), dtype=torch.uint8)
    assert crop_and_flip(image, 32, rng).shape == (32, 32, 3)
    window = torch.zeros(20, 128)
    noisy = noise_and_roll(window, rng)
    assert noisy.shape == window.shape
    assert 0 < noisy.max() <= 0.1


def test_images_are_normalised_by_imagenets_statistics() -> None:
    white = normalise_images(torch.full((2, 4, 4, 3), 255, dtype=torch.uint8))
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(white[1, :, 2, 2], expected)


def test_a_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    tar = DatasetPaths(write_known_shards(tmp_path)).tar("train-00001")
    clips = pairs(tmp_path)
    tar.unlink()
    with pytest.raises(ShardError, match=r"train-00001\.tar is not what was prepared: it is gone"):
        clips[SampleIndex(0, 6)]
    with pytest.raises(ShardError, match=r"train-00001\.tar is gone.*prepare` again"):
        pairs(tmp_path)


def test_a_shard_that_was_cut_is_named(tmp_path: Path) -> None:
    tar = DatasetPaths(write_known_shards(tmp_path)).tar("train-00002")
    clips = pairs(tmp_path)
    tar.write_bytes(tar.read_bytes()[:4096])
    with pytest.raises(ShardError, match=r"train-00002\.tar is not what was prepared: it ends before clip01"):
        clips[SampleIndex(0, 11)]
    with pytest.raises(ShardError, match=r"train-00002\.tar has 4096 bytes, \d+ were prepared"):
        pairs(tmp_path)


def test_changed_bytes_are_found_by_checksum_on_request(tmp_path: Path) -> None:
    tar = DatasetPaths(write_known_shards(tmp_path)).tar("train-00000")
    clips, checked = pairs(tmp_path), pairs(tmp_path, check_crc=True)
    assert equal(clips[SampleIndex(0, 1)], checked[SampleIndex(0, 1)])
    content = bytearray(tar.read_bytes())
    offset = clips.store.index[1].number("mel_offset") + 5000
    content[offset] ^= 1
    tar.write_bytes(content)
    clips[SampleIndex(0, 1)]
    with pytest.raises(ShardError, match="the checksum of clip001_00000000 is"):
        checked[SampleIndex(0, 1)]


def test_bytes_that_are_no_jpeg_name_shard_and_clip(tmp_path: Path) -> None:
    tar = DatasetPaths(write_known_shards(tmp_path)).tar("train-00000")
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(ShardError, match=r"train-00000\.tar .* a frame of clip001_00000000 is no JPEG"):
        pairs(tmp_path).store[1].frame(0)


def test_a_split_that_is_not_there_is_refused(shards: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no split 'test'; it has: train \(train\)"):
        pairs(shards, split="test")


def test_statistics_come_in_pairs() -> None:
    with pytest.raises(ConfigError, match=r"mel_mean=-5\.0 and mel_std=None contradict"):
        DataConfig(mel_mean=-5.0)


def batches(clips: ClipPairs, num_workers: int) -> Iterator[dict[str, torch.Tensor]]:
    order = ShuffledBatches(len(clips), 4, Position(0, 0, 0))
    return iter(DataLoader(clips, batch_sampler=order, num_workers=num_workers))


def equal(one: dict[str, object], two: dict[str, object]) -> bool:
    return all(
        torch.equal(value, two[name]) if isinstance(value, torch.Tensor) else value == two[name]
        for name, value in one.items()
    )
