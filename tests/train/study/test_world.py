"""Proves that a study's world becomes a dataset, and is left as it is when it is there."""

from pathlib import Path

from cavsync.pipeline.dataset.reader import Dataset
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.train.study.world import make_study_world


def test_the_world_of_a_study_is_prepared_once(tmp_path: Path) -> None:
    config = WorldConfig(num_train=2, num_test=1, side_px=32)
    counts: list[tuple[int, int]] = []

    def make() -> Path:
        return make_study_world(
            config, tmp_path, Workers(), lambda *one: counts.append(one), lambda line: None
        )

    dataset = Dataset.open(make())
    assert (len(dataset.index("train")), len(dataset.index("test"))) == (2, 1)
    assert counts[:3] == [(1, 3), (2, 3), (3, 3)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    make()
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")} != {}
