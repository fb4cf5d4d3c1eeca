"""Proves the stream: the same items as from a disk, every clip once an epoch, over HTTP and from a folder."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.known_shards import frame_jpeg, mel, micro_run, write_known_shards
from support.rank_work import CPU
from support.trainings import Calls

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.dataset.writer import npy_bytes
from cavsync.train.data.config import DataConfig
from cavsync.train.data.index.checks import ShardError
from cavsync.train.data.pair_rule import SampleIndex
from cavsync.train.data.pairs import ClipPairs
from cavsync.train.data.sampler import Position, TooFewClipsError
from cavsync.train.data.stream.clip import StreamedClip
from cavsync.train.data.stream.source import StreamedSource, visits
from cavsync.train.engine.config import ConfigError
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import StepMetrics
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.estimate import estimate
from cavsync.train.pretrain.trainer import pretrain

NUM_CLIPS = 24
START = Position(0, 0, 0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=NUM_CLIPS)


@pytest.fixture(scope="module")
def served(shards: Path) -> Iterator[str]:
    """The dataset behind a URL."""
    with server(shards) as address:
        yield address


class server:  # noqa: N801 (used as a function)
    """Serves a folder over HTTP within `with`."""

    requests: ClassVar[list[tuple[str, dict[str, str]]]] = []
    """What was requested of the one that was opened last: path and headers."""

    def __init__(self, folder: Path) -> None:
        requests = server.requests = []

        class Quiet(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append((self.path, dict(self.headers)))
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))

    def __enter__(self) -> str:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.http.server_port}"

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def run_from(
    path: str | Path, *, num_workers: int = 0, shuffle_clips: int = 3, **changes: Any
) -> PretrainConfig:
    """Batches of four: six make an epoch."""
    config = micro_run(Path(path), **({"batch_size": 4} | changes))
    stream = {
        "source": "stream",
        "path": str(path),
        "num_workers": num_workers,
        "shuffle_clips": shuffle_clips,
    }
    return replace(config, data=replace(config.data, **stream))


def stream_of(config: PretrainConfig) -> StreamedSource:
    return StreamedSource(config.data, config.model, config.batch_size, config.seed)


def batches(
    config: PretrainConfig, count: int, position: Position = START, rank: int = 0, num_ranks: int = 1
) -> list[dict[str, Any]]:
    with closing(stream_of(config).batches(position, Ranks(rank, num_ranks), CPU)) as stream:
        return list(islice(stream, count))


def keys(found: list[dict[str, Any]]) -> list[str]:
    return [key for batch in found for key in batch["key"]]


ALL_KEYS = [f"clip{clip:03d}_00000000" for clip in range(NUM_CLIPS)]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["http", "file", "folder"])
def test_every_clip_comes_once_an_epoch(shards: Path, served: str, kind: str, num_workers: int) -> None:
    path = {"http": served, "file": f"file://{shards}", "folder": shards}[kind]
    found = keys(batches(run_from(path, num_workers=num_workers), 12))
    first, second = found[:NUM_CLIPS], found[NUM_CLIPS:]
    assert sorted(first) == sorted(second) == ALL_KEYS
    assert first != second


@pytest.mark.parametrize("num_frames", [None, 3])
def test_streamed_items_are_those_of_the_index(shards: Path, num_frames: int | None) -> None:
    config = run_from(shards)
    config = replace(config, data=replace(config.data, num_frames=num_frames))
    indexed = ClipPairs(replace(config.data, source="index"), config.model, config.seed)
    for batch in batches(config, 6):
        for row, key in enumerate(batch["key"]):
            item = indexed[SampleIndex(0, ALL_KEYS.index(key))]
            for name in ("audio", "image", "noise_audio", "noise_image"):
                assert torch.equal(batch[name][row], item[name]), name


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(2, 0), (2, 2), (4, 1)])
def test_ranks_get_equal_batches_and_no_clip_twice(shards: Path, num_ranks: int, num_workers: int) -> None:
    config = run_from(shards, num_workers=num_workers, batch_size=8)
    parts = [batches(config, 3, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert {len(batch["key"]) for part in parts for batch in part} == {8 // num_ranks}
    assert Counter(key for part in parts for key in keys(part)) == Counter(ALL_KEYS)


# Of five clips a shard: the first of a shard, one in its middle, its last one, and all of the fourth shard.
GAPS_S = {clip: [(1.0, 1.5)] for clip in (0, 7, 14, *range(15, 20))}
NUM_WITHOUT_GAPS = NUM_CLIPS - len(GAPS_S)


def limited(path: str | Path, max_gap_s: float, **changes: Any) -> PretrainConfig:
    config = run_from(path, **changes)
    return replace(config, data=replace(config.data, max_gap_s=max_gap_s))


@pytest.mark.parametrize("kind", ["http", "folder"])
def test_clips_with_longer_gaps_are_not_streamed(tmp_path: Path, kind: str) -> None:
    write_known_shards(tmp_path, num_clips=NUM_CLIPS, audio_gaps_s=GAPS_S)
    with server(tmp_path) as address:
        path = {"http": address, "folder": tmp_path}[kind]
        source = stream_of(limited(path, 0.25))
        assert (len(source), source.num_left_out) == (NUM_WITHOUT_GAPS, len(GAPS_S))
        found = keys(batches(limited(path, 0.25), 8))
        every = stream_of(limited(path, 0.5))
    kept = [key for clip, key in enumerate(ALL_KEYS) if clip not in GAPS_S]
    assert sorted(found[:NUM_WITHOUT_GAPS]) == sorted(found[NUM_WITHOUT_GAPS:]) == kept
    assert (len(every), every.num_left_out) == (NUM_CLIPS, 0)
    assert every.identity() != source.identity()


def test_streamed_items_are_those_of_the_index_where_clips_are_left_out(tmp_path: Path) -> None:
    write_known_shards(tmp_path, num_clips=NUM_CLIPS, frame_gaps_s=GAPS_S)
    config = limited(tmp_path, 0.25)
    indexed = ClipPairs(replace(config.data, source="index"), config.model, config.seed)
    for batch in batches(config, 4):
        for row, key in enumerate(batch["key"]):
            item = indexed[SampleIndex(0, indexed.store.keys.index(key))]
            assert torch.equal(batch["audio"][row], item["audio"])
            assert torch.equal(batch["image"][row], item["image"])


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(2, 0), (2, 2)])
def test_ranks_get_equal_batches_where_clips_are_left_out(
    tmp_path: Path, num_ranks: int, num_workers: int
) -> None:
    write_known_shards(tmp_path, num_clips=NUM_CLIPS, audio_gaps_s=GAPS_S)
    config = limited(tmp_path, 0.25, num_workers=num_workers)
    parts = [keys(batches(config, 4, rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)]
    assert [len(part) for part in parts] == [8, 8]
    assert len({key for part in parts for key in part}) == NUM_WITHOUT_GAPS


def test_a_limit_of_gaps_needs_the_index_that_belongs_to_the_shards(tmp_path: Path) -> None:
    write_known_shards(tmp_path, num_clips=NUM_CLIPS, audio_gaps_s=GAPS_S)
    alone = write_known_shards(tmp_path / "one", num_clips=1, audio_gaps_s={0: [(0.0, 1.0)]})
    with pytest.raises(DatasetError, match=r"max_gap_s=0\.1 leaves no clip"):
        stream_of(limited(alone, 0.1, batch_size=1))
    index = DatasetPaths(tmp_path).index("train-00001")
    index.write_bytes(DatasetPaths(tmp_path).index("train-00004").read_bytes())
    with pytest.raises(
        DatasetError, match=r"train-00001\.parquet lists 4 prepared clips, its record in done/ 5"
    ):
        stream_of(limited(tmp_path, 0.25))
    index.unlink()
    with pytest.raises(DatasetError, match=r"train-00001\.parquet.* copy the folder index/ there too"):
        stream_of(limited(tmp_path, 0.25))
    assert len(stream_of(run_from(tmp_path))) == NUM_CLIPS


def several(path: str | Path, pairs_per_read: int, **changes: Any) -> PretrainConfig:
    """Makes several pairs of a clip each time that it is read."""
    config = run_from(path, **({"shuffle_clips": 8} | changes))
    return replace(config, data=replace(config.data, pairs_per_read=pairs_per_read))


@pytest.mark.parametrize(
    ("pairs_per_read", "num_ranks", "num_workers"), [(2, 1, 0), (4, 1, 2), (2, 2, 0), (2, 2, 2)]
)
def test_several_pairs_of_a_read_are_those_of_the_index_in_as_many_epochs(
    shards: Path, pairs_per_read: int, num_ranks: int, num_workers: int
) -> None:
    config = several(shards, pairs_per_read, num_workers=num_workers)
    indexed = ClipPairs(replace(config.data, source="index", pairs_per_read=1), config.model, config.seed)
    count = pairs_per_read * 6
    found = [
        batch
        for rank in range(num_ranks)
        for batch in batches(config, 2 * count, rank=rank, num_ranks=num_ranks)
    ]
    epochs = [indexed[SampleIndex(epoch, clip)] for epoch in range(2 * pairs_per_read) for clip in range(24)]
    for name in ("audio", "image", "noise_audio", "noise_image"):
        streamed = Counter(row.numpy().tobytes() for batch in found for row in batch[name])
        assert streamed == Counter(item[name].numpy().tobytes() for item in epochs), name


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(1, 0), (1, 2), (2, 0)])
def test_no_batch_of_a_process_has_two_pairs_of_a_clip(
    shards: Path, num_ranks: int, num_workers: int
) -> None:
    for rank, shuffle_clips in product(range(num_ranks), (8, 9, 24)):
        config = several(shards, 2, num_workers=num_workers, shuffle_clips=shuffle_clips)
        found = batches(config, 24, rank=rank, num_ranks=num_ranks)
        assert all(len(set(batch["key"])) == 4 // num_ranks for batch in found)


def test_clips_meet_others_when_they_come_again(shards: Path) -> None:
    found = batches(several(shards, 4, shuffle_clips=NUM_CLIPS), 24)
    assert len({frozenset(batch["key"]) for batch in found}) == 24


def test_a_run_of_several_pairs_a_read_is_estimated_on_a_smaller_batch(shards: Path) -> None:
    config = several(shards, 12, batch_size=12, shuffle_clips=NUM_CLIPS)
    assert estimate(config, CPU).clips_a_step == 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("count", "times", "apart"), [(8, 4, 4), (9, 3, 4), (64, 5, 16), (3, 1, 2), (4, 3, 4)]
)
def test_visits_are_in_new_orders_and_apart(seed: int, count: int, times: int, apart: int) -> None:
    found = list(visits(np.random.default_rng(seed), count, times, apart))
    assert sorted(found) == [(time, index) for time in range(times) for index in range(count)]
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    order = [index for _, index in found]
    if count >= 2 * apart:
        assert all(len(set(order[at : at + apart + 1])) == apart + 1 for at in range(len(order) - apart))
    # What a stream of one pair a read gives is a plain permutation, as it was before there were several.
    assert order[:count] == np.random.default_rng(seed).permutation(count).tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize(("num_workers", "num_done"), [(0, 5), (0, 13), (2, 7), (3, 14)])
def test_a_stream_of_several_pairs_goes_on_where_it_was(
    shards: Path, num_workers: int, num_done: int
) -> None:
    config = several(shards, 2, num_workers=num_workers)
    epoch, batch = divmod(num_done, 6)
    rest = batches(config, 3, Position(0, epoch, 4 * batch))
    whole = batches(config, num_done + 3)[num_done:]
    for one, two in zip(rest, whole, strict=True):
        assert one["key"] == two["key"]
        assert torch.equal(one["image"], two["image"])


def test_several_pairs_of_a_read_ask_for_a_shard_once(shards: Path) -> None:
    with server(shards) as address:
        batches(several(address, 4, shuffle_clips=NUM_CLIPS), 24)
    requests = [path for path, _ in server.requests if path.endswith(".tar")]
    assert len(requests) == len(set(requests)) == 5


def test_several_pairs_of_a_read_that_would_meet_in_a_batch_are_refused(shards: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"pairs_per_read=3 does not divide the 4 clips of a batch in each process"
    ):
        batches(several(shards, 3), 1)
    with pytest.raises(
        ConfigError,
        match=r"shuffle_clips=7 would put two pairs .*shuffle_clips=8 or more, twice the 4 clips",
    ):
        batches(several(shards, 2, shuffle_clips=7), 1)
    assert len(batches(several(shards, 2, shuffle_clips=4), 1, num_ranks=2)) == 1
    with pytest.raises(ConfigError, match="pairs_per_read=2 is for source=stream"):
        DataConfig(pairs_per_read=2)
    with pytest.raises(ConfigError, match="pairs_per_read=0 must be at least 1"):
        DataConfig(source="stream", pairs_per_read=0)


def test_a_rest_smaller_than_a_batch_is_left_out(shards: Path) -> None:
    found = keys(batches(run_from(shards, batch_size=5), 4))
    assert len(set(found)) == 20


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize(
    ("num_workers", "num_done"), [(0, 1), (0, 7), (1, 5), (2, 1), (2, 6), (3, 2), (3, 5), (3, 7)]
)
def test_the_stream_goes_on_where_it_was_with_as_many_workers(
    shards: Path, num_workers: int, num_done: int
) -> None:
    config = run_from(shards, num_workers=num_workers)
    epoch, batch = divmod(num_done, 6)
    rest = batches(config, 2, Position(0, epoch, 4 * batch))
    assert keys(rest) == keys(batches(config, num_done + 2)[num_done:])


def test_chunks_shuffle_more_than_shards(shards: Path) -> None:
    in_order, shuffled = (keys(batches(run_from(shards, shuffle_clips=size), 6)) for size in (1, 12))
    neighbours = [sum(int(b[4:7]) - int(a[4:7]) == 1 for a, b in pairwise(k)) for k in (in_order, shuffled)]
    assert neighbours[0] >= NUM_CLIPS - 5  # of five shards, in an order of their own
    assert neighbours[1] < 10


def test_a_run_from_a_url_resumes_to_the_same_bits(served: str, tmp_path: Path) -> None:
    config = run_from(served, num_workers=2, num_steps=8)

    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    whole = pretrain(config, tmp_path / "whole", device="cpu")
    every_step = replace(config, checkpoint_every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        pretrain(every_step, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop)])
    resumed = pretrain(every_step, tmp_path / "run", device="cpu", resume=True)
    one, two = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_shard_is_one_request_from_front_to_back(shards: Path) -> None:
    # Many web servers give no parts of files, and a shard is larger than what a client asks for at once.
    with server(shards) as address:
        batches(run_from(address, shuffle_clips=NUM_CLIPS), 6)
    requests = [path for path, headers in server.requests if path.endswith(".tar")]
    assert len(requests) == len(set(requests)) > 1
    assert not any("Range" in headers for _, headers in server.requests)


@pytest.mark.parametrize(
    ("member", "what"), [("mel.npy", "the log-mel"), ("json", "the description"), ("00.jpg", "frame 0")]
)
@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_member_that_is_gone_or_damaged_is_named(member: str, what: str, content: bytes | None) -> None:
    members: dict[str, Any] = {
        "__key__": "clip000",
        "json": json.dumps({"frame_pts_s": [0.0]}).encode(),
        "00.jpg": frame_jpeg(0, 0, 32),
        "mel.npy": npy_bytes(mel(0).astype(np.float16)),
    }
    del members[member]
    clip = StreamedClip(members | ({} if content is None else {member: content}), "a.tar")
    with pytest.raises(ShardError, match=rf"a\.tar: {what} of clip000 is not there or damaged"):
        clip.frame(0), clip.mel_of(0, 32, "time")


def test_an_error_of_a_protocol_is_reported(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Files:
        def __getattr__(self, _: str) -> None:
            raise LookupError("Unable to locate credentials")

    config = run_from(served)
    stream = stream_of(config).batches(START, Ranks(), CPU)
    monkeypatch.setattr("cavsync.pipeline.storage.filesystem.file_system", lambda url: (Files(), url))
    with pytest.raises(ShardError, match=r"cannot be read \(LookupError: Unable to locate credentials\)"):
        next(stream)
    with pytest.raises(DatasetError, match=r"locate credentials\)\. .* Are data\.path and your credentials"):
        stream_of(config)


def test_a_url_is_streamed_or_refused(shards: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"path=s3://bucket/set is a URL, and source='index' .*set source=stream"
    ):
        DataConfig(path="s3://bucket/set")


def test_a_url_without_a_dataset_is_reported(tmp_path: Path, served: str) -> None:
    with pytest.raises(
        DatasetError,
        match=r"dataset\.json cannot be read: FileNotFoundError .* Are data\.path and your credentials right",
    ):
        stream_of(run_from(f"{served}/nothing"))
    with pytest.raises(DatasetError, match=r"dataset\.json cannot be read: .*No such file"):
        stream_of(run_from(tmp_path))


def test_a_missing_done_record_is_reported(tmp_path: Path) -> None:
    paths = DatasetPaths(write_known_shards(tmp_path))
    paths.done("train-00001").unlink()
    with pytest.raises(DatasetError, match=r"done/train-00001\.json cannot be read: .*Copy the folder done/"):
        stream_of(run_from(tmp_path))


def test_more_frames_than_were_prepared_are_refused(shards: Path) -> None:
    config = run_from(shards)
    with pytest.raises(DatasetError, match=r"num_frames=17, .* prepared with 16 frames"):
        stream_of(replace(config, data=replace(config.data, num_frames=17))).stored_frame()


def test_fewer_clips_than_a_batch_are_refused(shards: Path) -> None:
    with pytest.raises(TooFewClipsError, match="24 clips do not fill one batch of 25"):
        stream_of(run_from(shards, batch_size=25))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_that_is_gone_is_named(tmp_path: Path, num_workers: int) -> None:
    paths = DatasetPaths(write_known_shards(tmp_path))
    paths.tar("train-00001").unlink()
    with pytest.raises(ShardError, match=r"\A\S+train-00001\.tar cannot be read: FileNotFoundError"):
        batches(run_from(tmp_path, num_workers=num_workers), 6)


def test_a_shard_that_was_cut_is_named(tmp_path: Path) -> None:
    tar = DatasetPaths(write_known_shards(tmp_path)).tar("train-00000")
    content = tar.read_bytes()
    tar.write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(
        ShardError, match=r"train-00000\.tar (cannot be read: TarDamageError|ends after \d clips, 5 were)"
    ):
        batches(run_from(tmp_path), 3)


def test_a_shard_with_fewer_clips_than_its_record_is_named(tmp_path: Path) -> None:
    paths = DatasetPaths(write_known_shards(tmp_path))
    paths.tar("train-00000").write_bytes(paths.tar("train-00002").read_bytes())
    with pytest.raises(
        ShardError, match=r"train-00000\.tar ends after 2 clips, 5 were prepared: it has changed"
    ):
        batches(run_from(tmp_path), 3)
