"""Proves the synthetic world: audio and frames agree in time, pitch and level, the masks agree with
the pixels, the files with what was drawn, and the same config gives the same bytes however it was made."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from support.media import lag_s

from cavsync.pipeline.synthetic.audio import render_audio, render_turn
from cavsync.pipeline.synthetic.classes import BACKGROUND_ID, CLASS_IDS, CLASSES, MUTE_ID
from cavsync.pipeline.synthetic.clip import render_clip
from cavsync.pipeline.synthetic.config import WorldConfig, WorldError
from cavsync.pipeline.synthetic.frames import render_frames
from cavsync.pipeline.synthetic.masks import read_masks
from cavsync.pipeline.synthetic.paths import WorldPaths
from cavsync.pipeline.synthetic.timeline import (
    MIN_TURN_S,
    RADIUS,
    Motion,
    Timeline,
    Turn,
    plan_clip,
)
from cavsync.pipeline.synthetic.world import list_clips, make_world, read_world

CONFIG = WorldConfig(num_train=2, num_test=2, num_solo=1, seed=3)
RATE_HZ = CONFIG.sample_rate_hz


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(CONFIG, tmp_path_factory.mktemp("world")).root


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def still_turn(class_name: str, y: float = 0.5, radius: float = 0.2) -> Turn:
    """A turn of 3 s that does not move."""
    motion = Motion(0.5, y, (0.0, 0.0), (0.1, 0.1), (0.0, 0.0), 0.0, 0.0)
    index = [sounding.name for sounding in CLASSES].index(class_name)
    return Turn(index, 1.0, 4.0, radius, motion, (0.1, 0.9, 0.9), 0.0)


def middle_of(turn: Turn) -> np.ndarray:
    """Its audio without the fades."""
    times_s = np.arange(int(turn.start_s * RATE_HZ), int(turn.end_s * RATE_HZ)) / RATE_HZ
    return render_turn(turn, times_s, RATE_HZ, generator())[RATE_HZ // 4 : -RATE_HZ // 4]


# Content


@pytest.mark.parametrize("number", range(8))
def test_turns_fill_the_clip_and_at_most_two_are_audible_at_once(number: int) -> None:
    turns = plan_clip(CONFIG, "train", number).turns
    sounding = np.array([turn.presence(CONFIG.sample_times_s) > 0 for turn in turns]).sum(axis=0)
    assert len({turn.class_index for turn in turns}) == len(turns)
    assert all(turn.end_s - turn.start_s >= MIN_TURN_S for turn in turns)
    assert (sounding == 0).sum() <= 2 * len(turns)  # but for the instant of a change
    assert sounding.max() <= 2


@pytest.mark.parametrize("number", range(3))
def test_a_thing_is_visible_exactly_while_it_is_audible(number: int) -> None:
    silent = Timeline((), ())
    noise = render_audio(CONFIG, silent, generator())
    for turn in plan_clip(CONFIG, "test", number).turns:
        alone = Timeline((turn,), ())
        _, masks = render_frames(CONFIG, alone, generator())
        visible = (masks == CLASS_IDS[turn.sounding.name]).any(axis=(1, 2))
        presence = turn.presence(CONFIG.frame_times_s)
        assert visible[presence > 0.1].all()
        assert not visible[presence == 0].any()
        audible_s = np.flatnonzero(render_audio(CONFIG, alone, generator()) - noise) / RATE_HZ
        assert audible_s[0] == pytest.approx(max(0, turn.start_s), abs=0.03)  # a fade in begins at nothing
        assert audible_s[-1] == pytest.approx(min(10, turn.end_s), abs=0.15)  # the last click may be earlier


def test_mute_things_have_no_audio() -> None:
    timeline = plan_clip(CONFIG, "test", 0)
    assert timeline.mutes
    without = replace(timeline, mutes=())
    assert np.array_equal(
        render_audio(CONFIG, timeline, generator()), render_audio(CONFIG, without, generator())
    )


def test_a_mask_is_where_the_pixels_change() -> None:
    timeline = plan_clip(CONFIG, "test", 0)
    with_turns, masks = render_frames(CONFIG, timeline, generator())
    without, mute_masks = render_frames(CONFIG, replace(timeline, turns=()), generator())
    changed = (with_turns != without).any(axis=-1)
    shown = (masks != BACKGROUND_ID) & (masks != MUTE_ID)
    grown = shown.copy()  # by one pixel: edges are soft
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        grown |= np.roll(shown, step, axis)
    assert changed[shown].mean() > 0.999
    assert (changed & ~grown).sum() < 0.001 * changed.sum()  # the tips of triangles are thinner than a pixel
    assert np.array_equal(masks[~shown], mute_masks[~shown])


@pytest.mark.parametrize("sounding", CLASSES, ids=lambda sounding: sounding.name)
def test_every_class_is_drawn_within_its_radius(sounding) -> None:  # type: ignore[no-untyped-def]
    turn = still_turn(sounding.name, radius=0.25)
    _, masks = render_frames(CONFIG, Timeline((turn,), ()), generator())
    rows, columns = np.nonzero(masks[12] == CLASS_IDS[sounding.name])  # 1.92 s
    distances = np.hypot(rows + 0.5 - 64, columns + 0.5 - 64) / (0.25 * 128)
    assert 0.7 < distances.max() < 1.2
    assert len(rows) > 0.25 * np.pi * 32**2


def test_higher_is_higher_in_pitch() -> None:
    peaks_hz = {}
    for y in (0.25, 0.75):
        waveform = middle_of(still_turn("flute", y=y))
        peaks_hz[y] = np.abs(np.fft.rfft(waveform)).argmax() * RATE_HZ / len(waveform)
    octaves = np.log2(peaks_hz[0.25] / peaks_hz[0.75])
    assert octaves == pytest.approx(1.2 / 2, abs=0.01)


@pytest.mark.parametrize("name", [sounding.name for sounding in CLASSES])
def test_larger_is_louder(name: str) -> None:
    for radius, level_dbfs in zip(RADIUS, (-24, -12), strict=True):
        waveform = middle_of(still_turn(name, radius=radius))
        assert 10 * np.log10(np.mean(waveform**2)) == pytest.approx(level_dbfs, abs=1)
        assert np.abs(waveform).max() <= 1


@pytest.mark.parametrize("name", [sounding.name for sounding in CLASSES])
def test_every_window_of_a_timbre_holds_a_change(name: str) -> None:
    waveform = middle_of(still_turn(name))
    hop, window = 160, 96  # rows of 10 ms
    chunks = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::hop] * np.hanning(400)
    power = np.abs(np.fft.rfft(chunks)) ** 2
    for start in range(0, len(power) - window, 8):
        part = np.sqrt(power[start : start + window])
        distances = np.linalg.norm(part[:, None] - part[None, ::8], axis=-1)
        assert distances.max() > 0.2 * np.linalg.norm(part, axis=-1).max()


def test_clips_depend_on_neither_their_number_nor_other_splits() -> None:
    larger = replace(CONFIG, num_train=50, num_test=40)
    assert plan_clip(CONFIG, "test", 1) == plan_clip(larger, "test", 1)
    assert plan_clip(CONFIG, "test", 1) != plan_clip(CONFIG, "train", 1)
    assert plan_clip(CONFIG, "test", 1) != plan_clip(replace(CONFIG, seed=4), "test", 1)


def test_solo_clips_take_the_classes_in_turn() -> None:
    soloists = [plan_clip(CONFIG, "solo", number).turns for number in range(12)]
    assert [turns[0].class_index for turns in soloists] == [*range(10), 0, 1]
    assert all(len(turns) == 1 and turns[0].end_s > CONFIG.duration_s for turns in soloists)


# Difficulty


HARD = WorldConfig.of_difficulty("hard", num_train=2, num_test=2, seed=3)


def test_the_easy_world_is_the_world_without_a_difficulty() -> None:
    assert WorldConfig.of_difficulty("easy", seed=3) == WorldConfig(seed=3)
    # Record and timeline of a world made before there were difficulties.
    assert set(WorldConfig().to_json()) == {
        *("version", "num_train", "num_test", "num_solo", "seed", "duration_s", "side_px", "fps"),
        *("sample_rate_hz", "masked_splits"),
    }
    assert HARD.to_json()["num_kinds"] == 2
    timeline = plan_clip(WorldConfig(), "train", 5)
    assert [turn.sounding.name for turn in timeline.turns] == ["drum", "bird", "woodpecker", "harp", "maraca"]
    assert [turn.start_s for turn in timeline.turns] == pytest.approx(
        [-0.12, 1.812, 4.731, 6.409, 8.427], abs=1e-3
    )
    assert [turn.radius for turn in timeline.turns] == pytest.approx(
        [0.1874, 0.2613, 0.1937, 0.1665, 0.2127], abs=1e-4
    )
    assert [(mute.shape, round(mute.radius, 3)) for mute in timeline.mutes] == [("bar", 0.157)]


def test_fewer_kinds_give_a_clip_several_things_of_a_kind_at_their_own_heights_and_sizes() -> None:
    for number in range(20):
        turns = plan_clip(HARD, "test", number).turns
        assert {turn.class_index for turn in turns} <= {0, 1}
        assert len({(turn.radius, turn.motion.y) for turn in turns}) == len(turns) >= 4
        # Times, places and sizes are those of the easy world.
        easy = plan_clip(CONFIG, "test", number).turns
        assert [(turn.start_s, turn.radius, turn.motion) for turn in turns] == [
            (turn.start_s, turn.radius, turn.motion) for turn in easy
        ]


def test_a_twin_looks_like_a_class_that_sounds_and_is_mute_in_audio_and_masks() -> None:
    timeline = plan_clip(HARD, "test", 0)
    twins = timeline.mutes[-HARD.num_twins :]
    looks = {(CLASSES[kind].shape, CLASSES[kind].texture) for kind in range(HARD.num_kinds)}
    assert {(twin.shape, twin.texture) for twin in twins} <= looks
    assert all(RADIUS[0] <= twin.radius <= RADIUS[1] and twin.hsv[1] >= 0.7 for twin in twins)
    _, masks = render_frames(HARD, Timeline((), twins), generator())
    assert set(np.unique(masks)) == {BACKGROUND_ID, MUTE_ID}
    assert (masks == MUTE_ID).any(axis=(1, 2)).all()
    silent = Timeline((), ())
    assert np.array_equal(
        render_audio(HARD, Timeline((), twins), generator()), render_audio(HARD, silent, generator())
    )


def test_a_turn_off_screen_is_audible_and_invisible_and_the_summary_says_so(tmp_path: Path) -> None:
    config = WorldConfig(num_train=0, num_test=1, side_px=32, off_screen=0.5)
    turns = plan_clip(config, "test", 0).turns
    unseen = [turn for turn in turns if not turn.on_screen]
    assert 0 < len(unseen) < len(turns)
    _, masks = render_frames(config, Timeline(tuple(unseen), ()), generator())
    assert not masks.any()
    audio, nothing = (render_audio(config, Timeline(part, ()), generator()) for part in (tuple(unseen), ()))
    assert np.abs(audio).max() > 5 * np.abs(nothing).max()
    (clip,) = read_world(make_world(config, tmp_path).root)["clips"]
    assert [turn.get("on_screen", True) for turn in clip["turns"]] == [turn.on_screen for turn in turns]
    fractions = [turn.on_screen for number in range(100) for turn in plan_clip(HARD, "train", number).turns]
    assert np.mean(fractions) == pytest.approx(0.8, abs=0.06)


def test_a_clip_of_which_only_attributes_differ_is_one_thing_that_sounds_all_the_time() -> None:
    config = WorldConfig.of_difficulty("attributes")
    clips = [plan_clip(config, "test", number).turns for number in range(40)]
    assert all(len(turns) == 1 for turns in clips)
    assert {turns[0].class_index for turns in clips} == {0, 1}
    assert all(turns[0].start_s < 0 < config.duration_s < turns[0].end_s for turns in clips)
    assert len({turns[0].radius for turns in clips}) == len({turns[0].motion.y for turns in clips}) == 40


def test_height_and_size_can_be_set_apart_from_pitch_and_level() -> None:
    linked, apart = (
        plan_clip(replace(CONFIG, **fields), "test", 0).turns[0]
        for fields in ({}, {"octaves_per_height": 0.0, "size_range_db": 0.0})
    )
    times_s = np.linspace(0, 10, 50)
    assert np.ptp(np.log2(linked.pitch_hz(times_s))) > 0.01
    assert np.ptp(apart.pitch_hz(times_s)) == 0
    assert apart.level_dbfs == -18
    assert linked.level_dbfs == pytest.approx(np.interp(linked.radius, RADIUS, (-24, -12)))


@pytest.mark.parametrize(
    "fields", [{"num_kinds": 0}, {"num_kinds": 11}, {"most_turns": 0}, {"num_twins": -1}, {"off_screen": 1.0}]
)
def test_a_difficulty_that_no_world_has_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        WorldConfig(**fields)  # type: ignore[arg-type]


# Files


def decoded_frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.time, frame.to_ndarray(format="rgb24").astype(np.float32)


def decoded_audio(path: Path) -> np.ndarray:
    """From time 0 on, each frame at its time stamp."""
    with av.open(str(path)) as container:
        frames = [(frame.pts, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    waveform = np.zeros(max(pts + len(samples) for pts, samples in frames), np.float32)
    for pts, samples in frames:
        waveform[max(0, pts) : pts + len(samples)] = samples[max(0, -pts) :]
    return waveform


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_file_holds_the_rendered_audio_and_frames_at_their_times(split: str, world: Path) -> None:
    clip = next(clip for clip in list_clips(CONFIG) if clip.split == split)
    rendered = render_clip(CONFIG, clip.split, clip.number)
    path = WorldPaths(world).video(clip)

    waveform = decoded_audio(path)
    assert len(waveform) >= len(rendered.waveform) == 160_000
    assert abs(lag_s(waveform, rendered.waveform, RATE_HZ)) < 0.005
    # Locally too: each second on its own.
    for first in range(0, 160_000, RATE_HZ):
        second = slice(first, first + RATE_HZ)
        assert abs(lag_s(waveform[second], rendered.waveform[second], RATE_HZ)) < 0.005

    times_s, frames = zip(*decoded_frames(path), strict=True)
    assert times_s == pytest.approx(rendered.frame_times_s, abs=1e-4)
    assert len(frames) == 63
    errors = np.abs(np.array(frames)[:, None] - rendered.frames[None, ::6]).mean(axis=(2, 3, 4))
    assert errors[::6].argmin(axis=1).tolist() == list(range(len(errors[::6])))
    assert np.diag(errors[::6]).max() < 6  # grey levels


def test_masks_are_read_back_as_drawn(world: Path) -> None:
    clip = next(clip for clip in list_clips(CONFIG) if clip.split == "test")
    times_s, masks = read_masks(WorldPaths(world).masks(clip))
    rendered = render_clip(CONFIG, "test", 0)
    assert np.array_equal(masks, rendered.masks)
    assert times_s == pytest.approx(rendered.frame_times_s)
    assert len(list((world / "masks").iterdir())) == CONFIG.num_test


def test_lists_have_the_official_layout(world: Path) -> None:
    clips = list_clips(CONFIG)
    rows = list(csv.reader((world / "raw/vggsound/vggsound.csv").read_text().splitlines()))
    assert rows == [[c.clip_id, str(c.start_s), c.main_class, c.split] for c in clips if c.split != "solo"]
    for clip_id, start, *_ in rows:
        assert (world / f"raw/vggsound/videos/{clip_id}_{int(start):06d}.mp4").is_file()

    lines = (world / "raw/audioset/eval_segments.csv").read_text().splitlines()
    assert [line[0] for line in lines[:3]] == ["#"] * 3
    assert lines[1].startswith("# num_ytids=2, num_segs=2, num_unique_labels=")
    labels = (world / "raw/audioset/class_labels_indices.csv").read_text().splitlines()
    known = {row["mid"] for row in csv.DictReader(labels)}
    for line in lines[3:]:
        match = re.fullmatch(r'([\w-]{11}), (\d+\.000), (\d+\.000), "([^"]+)"', line)
        assert match
        clip_id, start, end, mids = match.groups()
        assert float(end) - float(start) == 10
        assert set(mids.split(",")) <= known
        assert (world / f"raw/audioset/videos/{clip_id}_{start}.mp4").is_file()


def test_ids_are_unique_and_some_are_awkward() -> None:
    ids = [clip.clip_id for clip in list_clips(WorldConfig(num_train=300, num_test=100, num_solo=20))]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w-]{11}", clip_id) for clip_id in ids)
    assert any(clip_id.startswith("-") for clip_id in ids)
    assert any("_" in clip_id for clip_id in ids)


def test_the_summary_holds_the_truth(world: Path) -> None:
    summary = read_world(world)
    first = summary["clips"][0]
    turns = plan_clip(CONFIG, "train", 0).turns
    assert summary["config"]["seed"] == 3
    assert [turn["class"] for turn in first["turns"]] == [turn.sounding.name for turn in turns]
    assert first["turns"][0]["start_s"] == 0
    assert (world / first["video"]).is_file()


def test_two_workers_write_the_same_bytes(world: Path, tmp_path: Path) -> None:
    make_world(CONFIG, tmp_path, workers=2)
    assert content(tmp_path) == content(world)


def test_a_complete_world_is_left_alone(world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert make_world(CONFIG, world).num_written == 0
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_an_interrupted_world_is_continued(world: Path, tmp_path: Path) -> None:
    done = []

    def stop_at_the_second() -> None:
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(CONFIG, tmp_path, on_clip=stop_at_the_second)
    (tmp_path / "partial/123.half.mp4").write_bytes(b"a partial file of a killed run")
    with pytest.raises(WorldError, match=r"holds no complete world: world\.json is not there"):
        read_world(tmp_path)
    assert make_world(CONFIG, tmp_path).num_written == 3
    assert content(tmp_path) == content(world)


def test_another_config_is_refused_with_both_values(world: Path) -> None:
    with pytest.raises(WorldError, match="seed is 3 there, 4 was requested"):
        make_world(replace(CONFIG, seed=4), world)
    assert json.loads((world / "world.config.json").read_text())["seed"] == 3


def test_a_config_that_makes_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"self\.duration_s=3\.0"):
        WorldConfig(duration_s=3.0)
    with pytest.raises(ValueError, match="num_test=-1"):
        WorldConfig(num_test=-1)
