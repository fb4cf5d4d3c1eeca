"""Proves that Hugging Face's datasets reads shards as they are, whatever the first clips of a tar hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.known_shards import mel, read_image, write_known_shards
from torchvision.transforms.functional import pil_to_tensor

from cavsync.pipeline.dataset.reader import Dataset

datasets = pytest.importorskip("datasets")

NUM_CLIPS, ROWS = 8, 50
# Behind the first five clips, by which the types of the columns are chosen.
AUDIO_GAPS_S, FRAME_GAPS_S = {6: [(0.125, 0.25)]}, {7: [(0.0, 0.25), (0.375, 0.5)]}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gaps = {"audio_gaps_s": AUDIO_GAPS_S, "frame_gaps_s": FRAME_GAPS_S}
    return write_known_shards(
        tmp_path_factory.mktemp("known"), num_clips=NUM_CLIPS, clips_per_shard=NUM_CLIPS, rows=ROWS, **gaps
    )


def load(known: Path, cache: Path, **options: Any) -> Any:
    files = {"train": str(known / "shards" / "train-*.tar")}
    return datasets.load_dataset(
        "webdataset", data_files=files, split="train", cache_dir=str(cache), **options
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_every_clip_is_a_row_with_its_frames_its_log_mel_and_its_description(
    streaming: bool, known: Path, tmp_path: Path
) -> None:
    rows = list(load(known, tmp_path, streaming=streaming))
    keys = Dataset.open(known).index("train")["key"].tolist()
    assert [row["__key__"] for row in rows] == [row["json"]["key"] for row in rows] == keys
    for clip, row in enumerate(rows):
        for frame in (0, 15):
            image = pil_to_tensor(row[f"{frame:02d}.jpg"]).permute(1, 2, 0)
            assert read_image(image) == (clip, frame)
        stored = mel(clip, ROWS).astype(np.float16)
        np.testing.assert_array_equal(np.array(row["mel.npy"], np.float16), stored)
        assert row["json"]["clip_id"] == f"clip{clip:03d}"
        assert len(row["json"]["frame_pts_s"]) == 16


def test_arrays_come_as_arrays_when_they_are_asked_for(known: Path, tmp_path: Path) -> None:
    row = load(known, tmp_path).with_format("numpy")[3]
    assert (row["mel.npy"].shape, row["03.jpg"].shape) == ((ROWS, 128), (32, 32, 3))
