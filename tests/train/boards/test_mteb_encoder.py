"""Proves that MTEB scores a model through the encoder, on a task that is built as its own are, and what the vectors are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.known_shards import micro_run, write_known_shards
from support.media import write_clip

from cavsync.mteb import MtebEncoder
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.media.mel import log_mel
from cavsync.train.data.images import fit
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.errors import EvaluationError
from cavsync.train.pretrain.trainer import pretrain

mteb = pytest.importorskip("mteb")
pytest.importorskip("torchcodec")

NUM_FRAMES, NUM_CLIPS = 4, 6
# MTEB's libraries warn of themselves, and leave files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    root = tmp_path_factory.mktemp("boards")
    run = pretrain(micro_run(write_known_shards(root / "data", num_clips=6)), root / "run", device="cpu")
    return LoadedCheckpoint.load(run.weights)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Videos and their audio, as MTEB's data sets hold them."""
    from datasets import Audio, Dataset, Video

    folder = tmp_path_factory.mktemp("clips")
    for number in range(NUM_CLIPS):
        write_clip(folder / f"{number}.mp4", 1.0 + 0.2 * number)
    paths = [str(folder / f"{number}.mp4") for number in range(NUM_CLIPS)]
    columns = {"id": [str(number) for number in range(NUM_CLIPS)], "video": paths, "audio": paths}
    return Dataset.from_dict(columns).cast_column("video", Video()).cast_column("audio", Audio())


def task(clips: Any, query: str, corpus: str, category: str) -> Any:
    """As MTEB's VGGSoundAVV2ARetrieval is written, with other clips."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.tasks.retrieval.eng.vggsound_av_retrieval import VGGSoundAVV2ARetrieval

    published = VGGSoundAVV2ARetrieval.metadata.model_dump()

    class ToyRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(**published | {"name": "ToyRetrieval", "category": category})

        def load_data(self, num_proc: int | None = None, **options: Any) -> None:
            relevant = {name: {name: 1} for name in clips["id"]}
            split = RetrievalSplitData(
                queries=clips.select_columns(["id", query]),
                corpus=clips.select_columns(["id", corpus]),
                relevant_docs=relevant,
                top_ranked=None,
            )
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return ToyRetrieval()


@pytest.fixture(scope="module")
def expected(checkpoint: LoadedCheckpoint, clips: Any) -> dict[str, np.ndarray]:
    """Unit vectors (clips, width) of each side, from the files as torchcodec decodes them."""
    embedder = Embedder(checkpoint)
    images, segments = [], []
    for clip in clips:
        indices = np.linspace(0, clip["video"].metadata.num_frames - 1, NUM_FRAMES).round().astype(int)
        frames = clip["video"].get_frames_at(indices.tolist()).data
        vectors = embedder.unit_frames([fit(frame.permute(1, 2, 0), embedder.spec.side) for frame in frames])
        images.append(vectors.mean(axis=0))
        mel = log_mel(resampled(clip["audio"])).astype(np.float16)
        times_s = (np.arange(NUM_FRAMES) + 0.5) * len(mel) / 100 / NUM_FRAMES
        starts = sorted(set(window_starts(times_s, len(mel), embedder.rule.rows).tolist()))
        vectors = embedder.unit_segments([embedder.rule.normalised(mel, start) for start in starts])
        segments.append(vectors.mean(axis=0))
    sides = {"video": np.stack(images), "audio": np.stack(segments)}
    return {name: side / np.linalg.norm(side, axis=1, keepdims=True) for name, side in sides.items()}


def resampled(audio: Any) -> np.ndarray:
    """(samples,) at 16 kHz, mean of the channels."""
    from torchaudio.transforms import Resample

    samples = torch.from_numpy(np.atleast_2d(audio["array"])).float()
    mean: np.ndarray = Resample(audio["sampling_rate"], 16_000)(samples).mean(dim=0).numpy()
    return mean


@pytest.mark.parametrize(
    ("query", "corpus", "category"), [("video", "audio", "v2a"), ("audio", "video", "a2v")]
)
def test_mteb_scores_the_model_by_the_cosines_of_its_vectors(
    query: str,
    corpus: str,
    category: str,
    checkpoint: LoadedCheckpoint,
    clips: Any,
    expected: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    encoder = MtebEncoder(checkpoint, num_frames=NUM_FRAMES)
    toy = task(clips, query, corpus, category)
    result = mteb.evaluate(encoder, toy, cache=None, prediction_folder=tmp_path, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    cosines = expected[query] @ expected[corpus].T
    ranks = 1 + (cosines > np.diag(cosines)[:, None]).sum(axis=1)
    for k in (1, 3, 5):
        assert scores[f"recall_at_{k}"] == pytest.approx((ranks <= k).mean(), abs=1e-5)
    assert scores["mrr_at_10"] == pytest.approx((1 / ranks).mean(), abs=1e-4)


def test_the_vectors_are_means_over_frames_and_segments(
    checkpoint: LoadedCheckpoint, clips: Any, expected: dict[str, np.ndarray]
) -> None:
    from torch.utils.data import DataLoader

    encoder = MtebEncoder(checkpoint, num_frames=NUM_FRAMES)
    for side in ("video", "audio"):
        vectors = encoder.encode(DataLoader(clips.select_columns([side]), batch_size=4))
        np.testing.assert_allclose(vectors, expected[side], atol=1e-5)
    both = encoder.encode(DataLoader(clips.select_columns(["video", "audio"]), batch_size=4))
    np.testing.assert_allclose(both, expected["video"] + expected["audio"], atol=1e-5)


def test_what_the_results_are_filed_under(checkpoint: LoadedCheckpoint) -> None:
    meta = MtebEncoder(checkpoint, name="me/mine").mteb_model_meta
    assert (meta.name, meta.embed_dim) == ("me/mine", 16)
    assert isinstance(MtebEncoder(checkpoint), mteb.EncoderProtocol)


def test_a_task_of_texts_is_an_error(checkpoint: LoadedCheckpoint) -> None:
    from datasets import Dataset
    from torch.utils.data import DataLoader

    texts = DataLoader(Dataset.from_dict({"text": ["a dog barks"]}))
    with pytest.raises(
        EvaluationError, match=r"asks for embeddings of text; this model has those of audio, video, image"
    ):
        MtebEncoder(checkpoint).encode(texts)
