"""A trained model as an encoder of MTEB, the benchmark of embeddings, whose tasks retrieve audio by video and back.

mteb is no dependency: it is loaded when the encoder is used.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from cavsync.pipeline.dataset.sampling import frame_times_s, window_starts
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S, SAMPLE_RATE_HZ
from cavsync.pipeline.media.mel import FRAME_SAMPLES, log_mel
from cavsync.train.data.images import fit
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embedder import Embedder
from cavsync.train.errors import EvaluationError

# Inputs of a task that the model has an encoder for.
MODALITIES = ("audio", "video", "image")


class MtebEncoder:
    """One vector for each audio, video or image: the mean of the unit vectors of its segments or frames.

    Frames are taken evenly from a video, from its first to its last; the audio segments are those of as many instants, spread
    over the audio. A task that gives audio and video of one item gets their sum. MTEB compares single vectors, by cosine: its
    figures are not those of the paper, which compares frame by frame.
    """

    def __init__(
        self,
        checkpoint: Path | str | LoadedCheckpoint,
        num_frames: int = 16,
        device: str = "auto",
        name: str = "cavsync/cav-mae-sync",
    ) -> None:
        """`checkpoint` is what `cavsync.embed` takes; results are filed under `name`, ORGANISATION/NAME."""
        if not isinstance(checkpoint, LoadedCheckpoint):
            checkpoint = LoadedCheckpoint.load(checkpoint, device, "auto")
        self._embedder = Embedder(checkpoint)
        self._num_frames, self._name = num_frames, name

    @property
    def mteb_model_meta(self) -> Any:
        """MTEB's ModelMeta; the revision is the beginning of the weights' SHA-256."""
        from mteb.models import ModelMeta

        return ModelMeta.create_empty(
            {
                "name": self._name,
                "revision": self._embedder.about["checkpoint_sha256"][:16],
                "embed_dim": self._embedder.width,
                "modalities": list(MODALITIES),
                "framework": ["PyTorch"],
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **options: Any,
    ) -> np.ndarray:
        """(items, D) float32 of a DataLoader of MTEB. Raises EvaluationError for a task whose items are text."""
        from mteb.models.modality_collators import VideoCollator

        inputs.collate_fn = VideoCollator(target_sampling_rate=SAMPLE_RATE_HZ, num_frames=self._num_frames)
        return np.concatenate([self._encode_batch(batch, task_metadata) for batch in inputs])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """(N, M) cosines of (N, D) and (M, D) vectors."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """(N,) cosines of (N, D) and (N, D) vectors."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _encode_batch(self, batch: Mapping[str, Any], task_metadata: Any) -> np.ndarray:
        """(items, D) float32"""
        encoders: dict[str, Callable[[Any], np.ndarray]] = {
            "audio": lambda one: self._embedder.unit_segments(self._segments(one["array"])),
            "video": lambda frames: self._embedder.unit_frames(self._images(frames)),
            "image": lambda image: self._embedder.unit_frames(self._images([image])),
        }
        given = [name for name in MODALITIES if name in batch]
        if not given or "text" in batch:
            task = getattr(task_metadata, "name", "this task")
            raise EvaluationError(
                f"{task} asks for embeddings of {', '.join(sorted(set(batch) & {*MODALITIES, 'text'})) or 'nothing known'}; this "
                f"model has those of {', '.join(MODALITIES)} alone. Choose tasks such as VGGSoundAVV2ARetrieval."
            )
        sides = [np.stack([_unit_mean(encoders[name](one)) for one in batch[name]]) for name in given]
        total: np.ndarray = np.sum(sides, axis=0)
        return total

    def _segments(self, waveform: np.ndarray) -> Iterable[Any]:
        """Normalised audio segments (rows, mels) of (samples,) at 16 kHz."""
        samples = np.ravel(waveform)
        mel = log_mel(np.pad(samples, (0, max(0, FRAME_SAMPLES - len(samples))))).astype(np.float16)
        times_s = frame_times_s(len(mel) / MEL_ROWS_PER_S, self._num_frames)
        rule = self._embedder.rule
        starts = np.unique(window_starts(times_s, len(mel), rule.rows))
        return (rule.normalised(mel, int(start)) for start in starts)

    def _images(self, frames: Iterable[Any]) -> Iterable[Any]:
        """uint8 (side, side, 3) images of frames: tensors (3, height, width), or PIL images."""
        for frame in frames:
            tensor = pil_to_tensor(frame.convert("RGB")) if isinstance(frame, Image.Image) else frame
            yield fit(tensor.permute(1, 2, 0), self._embedder.spec.side)


def _unit_mean(vectors: np.ndarray) -> np.ndarray:
    """(D,) unit vector, from (N, D) unit vectors."""
    mean = vectors.mean(axis=0)
    unit: np.ndarray = mean / np.linalg.norm(mean)
    return unit
