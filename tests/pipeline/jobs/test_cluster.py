"""Proves that a real Ray cluster that loses a node writes the same bytes as one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from support.media import write_clip
from support.runs import content, prepare, prepare_here, started, variables, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "clip0.mp4", 1.2)
    for number in range(1, 24):
        (folder / f"clip{number}.mp4").symlink_to("clip0.mp4")
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    assert prepare_here(videos, "--out", out).returncode == 0
    return content(out)


SMALL_STORE = {"object_store_memory": 80 * 2**20}
# A node is dead after five checks that fail; by default, which is every 3 s, the test would wait for that.
OFTEN = {"health_check_period_ms": 500}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that computes nothing; tests add nodes, and remove them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": True, "_system_config": OFTEN, **SMALL_STORE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def test_a_node_that_dies_takes_nothing_along(
    cluster: Cluster,
    videos: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first node is lost in the middle of a clip, over which its decoder hangs; the second one came during the run."""
    out = tmp_path / "data"
    harms = [{"clips": {"clip5": "hang"}, "once": str(tmp_path / "hanging")}]
    for name, value in variables(harms).items():
        monkeypatch.setenv(name, value)
    first = cluster.add_node(num_cpus=1, **SMALL_STORE)
    with started(videos, "--out", out, "--workers", "8", "--ray-address", cluster.address) as run:
        wait_for((tmp_path / "hanging").exists)
        second = cluster.add_node(num_cpus=1, **SMALL_STORE)
        wait_for(lambda: len(list(out.glob("done/*"))) == 11)  # all but the one that hangs
        cluster.remove_node(first, allow_graceful=False)
        _, output = run.communicate(timeout=120)
    cluster.remove_node(second, allow_graceful=False)
    assert run.returncode == 0, output
    assert "Ray's dashboard: http://127.0.0.1:" in output
    assert "8 workers were requested, there are CPUs for 1: running 1." in output
    assert "was lost (NodeDiedError); making it again." in output
    assert content(out) == undisturbed
    assert not list(out.rglob(".*"))


def test_a_run_without_an_address_leaves_a_cluster_on_this_machine_alone(
    cluster: Cluster,
    videos: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Joined by mistake, this head without CPUs would make no shard."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    result = prepare(videos, "--out", tmp_path / "data", "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert content(tmp_path / "data") == undisturbed
