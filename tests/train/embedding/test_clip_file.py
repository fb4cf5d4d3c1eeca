"""Proves that embeddings of any model are scored as ours are, and that the error for a wrong file names the row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cavsync.train.embedding.clip_file import read_embeddings, write_embeddings
from cavsync.train.embedding.clip_file_schema import EmbeddingFileError
from cavsync.train.embedding.clips import ClipEmbeddings

KEYS = ["a_00000000", "b_00000000", "c_00010000"]


@pytest.fixture
def embeddings() -> ClipEmbeddings:
    vectors = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    audio, image = torch.nn.functional.normalize(vectors, dim=-1).half()
    return ClipEmbeddings(KEYS, audio, image)


def as_table(embeddings: ClipEmbeddings) -> pd.DataFrame:
    """What somebody would write with pandas: float64 lists, of any length, no labels."""
    rows = [
        {
            "clip": key,
            "pair": pair,
            "audio": (audio.double() * 1e6).tolist(),
            "image": (image.double() * 1e-6).tolist(),
        }
        for key, clip_audio, clip_images in zip(
            embeddings.keys, embeddings.audio, embeddings.image, strict=True
        )
        for pair, (audio, image) in enumerate(zip(clip_audio, clip_images, strict=True))
    ]
    return pd.DataFrame(rows)


def test_a_written_file_is_read_back(embeddings: ClipEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.parquet"
    write_embeddings(path, embeddings, [["dog"], ["cat", "cow"], []], {"model": "mine"})
    read = read_embeddings(path)
    assert read.embeddings.keys == KEYS
    assert torch.equal(read.embeddings.audio, embeddings.audio)
    assert torch.equal(read.embeddings.image, embeddings.image)
    assert read.labels == [["dog"], ["cat", "cow"], []]
    assert read.about == {"model": "mine"}


def test_rows_of_pandas_in_any_order_are_sorted(embeddings: ClipEmbeddings, tmp_path: Path) -> None:
    as_table(embeddings).sample(frac=1, random_state=0).to_parquet(tmp_path / "x.parquet")
    read = read_embeddings(tmp_path / "x.parquet")
    assert read.labels is None
    order = [read.embeddings.keys.index(key) for key in KEYS]
    for stored, written in (
        (read.embeddings.audio, embeddings.audio),
        (read.embeddings.image, embeddings.image),
    ):
        torch.testing.assert_close(stored[order], written, atol=1e-3, rtol=0)  # scaled, and rounded again


def test_many_batches_fill_one_array(
    embeddings: ClipEmbeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cavsync.train.embedding.clip_file.BATCH_ROWS", 3)
    monkeypatch.setattr("cavsync.train.embedding.clip_file.CLIPS_PER_GROUP", 1)
    write_embeddings(tmp_path / "x.parquet", embeddings, [[], [], []], {})
    assert torch.equal(read_embeddings(tmp_path / "x.parquet").embeddings.image, embeddings.image)


def test_half_precision_and_fixed_lists_are_read(embeddings: ClipEmbeddings, tmp_path: Path) -> None:
    halves = embeddings.audio.reshape(-1).numpy()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(halves), 5)
    columns = {
        "clip": np.repeat(KEYS, 4),
        "pair": np.tile(np.arange(4), 3),
        "audio": vectors,
        "image": vectors,
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    read = read_embeddings(tmp_path / "x.parquet").embeddings
    assert torch.equal(read.audio, embeddings.audio)


def cut(row: int, side: str, content: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        cells = table[side].tolist()
        cells[row] = content
        return table.assign(**{side: cells})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.drop(columns=["pair", "image"]),
            "has no column pair, image; it has clip, audio. One row is one (frame, window) pair",
        ),
        (cut(5, "image", None), "row 5: pair 1 of b_00000000 has no image embedding"),
        (cut(2, "clip", None), "row 2: clip is empty"),
        (
            cut(6, "audio", [0.0] * 4),
            "row 6: the audio embedding of pair 2 of b_00000000 is 4 wide, those before it 5",
        ),
        (
            lambda table: table.assign(image=[cell[:3] for cell in table["image"]]),
            "audio embeddings are 5 wide, image embeddings 3",
        ),
        (lambda table: table.drop(index=7), "1 of 3 clips have another number of pairs than the 4"),
        (
            cut(1, "pair", 0),
            "the pairs of a_00000000 are numbered [0, 0, 2, 3]; they should be 0 to 3, each once",
        ),
        (
            lambda table: table.assign(pair=table["pair"] + 1),
            "are numbered [1, 2, 3, 4]; they should be 0 to 3",
        ),
        (lambda table: table.assign(pair=table["pair"] * 1.0), "column pair holds double, not whole numbers"),
        (
            lambda table: table.assign(audio=1.5),
            "column audio holds double, not lists of floating-point numbers",
        ),
        (
            cut(9, "image", [0.0, 1.0, np.nan, 1.0, 1.0]),
            "row 9: the image embedding of pair 1 of c_00010000 holds NaN",
        ),
        (
            cut(9, "audio", [0.0, 1.0, None, 1.0, 1.0]),
            "row 9: the audio embedding of pair 1 of c_00010000 holds NaN",
        ),
        (
            cut(3, "audio", [0.0, 1.0, np.inf, 1.0, 1.0]),
            "row 3: the audio embedding of pair 3 of a_00000000 holds NaN or",
        ),
        (cut(4, "audio", [0.0] * 5), "row 4: the audio embedding of pair 0 of b_00000000 is all zeros"),
        (lambda table: table.assign(labels="dog"), "column labels holds large_string, not lists of strings"),
        (lambda table: table.assign(audio=[[]] * 12, image=[[]] * 12), "not lists of floating-point numbers"),
        (lambda table: table.iloc[:0].astype({"pair": int}), "not lists of floating-point numbers"),
    ],
)
def test_a_mistake_is_named_with_its_row(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, embeddings: ClipEmbeddings, tmp_path: Path
) -> None:
    change(as_table(embeddings)).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(EmbeddingFileError) as raised:
        read_embeddings(tmp_path / "x.parquet")
    assert message in str(raised.value)
    assert str(tmp_path / "x.parquet") in str(raised.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingFileError, match="is not there; --embeddings names a Parquet file"):
        read_embeddings(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_text("clip,pair\n")
    with pytest.raises(EmbeddingFileError, match="is no Parquet file"):
        read_embeddings(tmp_path / "x.parquet")


def test_an_empty_file_is_refused(embeddings: ClipEmbeddings, tmp_path: Path) -> None:
    write_embeddings(tmp_path / "x.parquet", embeddings, [[], [], []], {})
    table = pq.read_table(tmp_path / "x.parquet").slice(0, 0)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(EmbeddingFileError, match="has no row"):
        read_embeddings(tmp_path / "x.parquet")
