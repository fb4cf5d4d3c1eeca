"""What the published CAV-MAE and CAV-MAE Sync code does, in our own words, as baselines.

The same steps with the same libraries, without their bookkeeping; nothing is made slower than it is there.
"""

import subprocess
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torchaudio
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from cavsync.pipeline.media.backends.ffmpeg_program import ffmpeg_path

NUM_FRAMES, SIDE = 16, 224
CLIP_ROWS, WINDOW_ROWS = 1024, 416
MEL_MEAN, MEL_STD = -5.081, 4.4849
IMAGE_MEAN, IMAGE_STD = [0.4850, 0.4560, 0.4060], [0.2290, 0.2240, 0.2250]


def extract(videos: Sequence[Path], out: Path) -> None:
    """A WAV file and 16 JPEGs of each video."""
    out.mkdir()
    for video in videos:
        _extract_audio(video, out)
        _extract_frames(video, out)


def _extract_audio(video: Path, out: Path) -> None:
    """Two processes: all channels at 16 kHz to a WAV file, then its first channel to another."""
    whole, first = out / f"{video.stem}.all.wav", out / f"{video.stem}.wav"
    _ffmpeg("-i", video, "-vn", "-ar", "16000", whole)
    _ffmpeg("-i", whole, "-af", "pan=mono|c0=c0", first)
    whole.unlink()


def reads(video: Path) -> bool:
    """Whether OpenCV finds all 16 frames; of some files it cannot seek to the last."""
    return all(image is not None for image in _frames(video))


def _extract_frames(video: Path, out: Path) -> None:
    """Short side to 224, centre square, JPEG."""
    for number, image in enumerate(_frames(video)):
        cv2.imwrite(str(out / f"{video.stem}.{number:02d}.jpg"), _centre(image))


def _frames(video: Path) -> Iterator[np.ndarray | None]:
    """One seek for each frame, by number."""
    opened = cv2.VideoCapture(str(video))
    num_decoded = int(opened.get(cv2.CAP_PROP_FRAME_COUNT))
    for number in range(NUM_FRAMES):
        opened.set(cv2.CAP_PROP_POS_FRAMES, number * num_decoded // NUM_FRAMES)
        yield opened.read()[1]
    opened.release()


def _centre(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    factor = SIDE / min(height, width)
    size = (max(SIDE, round(width * factor)), max(SIDE, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    top, left = (size[1] - SIDE) // 2, (size[0] - SIDE) // 2
    return small[top : top + SIDE, left : left + SIDE]


def _ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True)


class Pairs(Dataset):
    """`num_items` frames with their audio segments, each made from the clip's files."""

    def __init__(self, folder: Path, num_items: int) -> None:
        self.wavs, self.num_items = sorted(folder.glob("*.wav")), num_items
        self.image = transforms.Compose(
            [
                transforms.Resize(SIDE, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(SIDE),
                transforms.ToTensor(),
                transforms.Normalize(mean=IMAGE_MEAN, std=IMAGE_STD),
            ]
        )

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        wav = self.wavs[number % len(self.wavs)]
        return self.pair(wav, number * 7 % NUM_FRAMES)

    def pair(self, wav: Path, frame: int) -> tuple[Tensor, Tensor]:
        middle = round(frame * CLIP_ROWS / NUM_FRAMES)
        start = min(max(0, middle - WINDOW_ROWS // 2), CLIP_ROWS - WINDOW_ROWS)
        window = log_mel(wav)[start : start + WINDOW_ROWS]
        image = Image.open(wav.with_suffix(f".{frame:02d}.jpg")).convert("RGB")
        return (window - MEL_MEAN) / MEL_STD, self.image(image)


class WholeClips(Dataset):
    """All 16 pairs of each clip, one after the other, as for retrieval."""

    def __init__(self, folder: Path) -> None:
        self.pairs = Pairs(folder, 0)

    def __len__(self) -> int:
        return len(self.pairs.wavs)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        made = [self.pairs.pair(self.pairs.wavs[number], frame) for frame in range(NUM_FRAMES)]
        windows, images = zip(*made, strict=True)
        return torch.stack(windows), torch.stack(images)


def log_mel(wav: Path) -> Tensor:
    """(1024, 128), padded with zeros."""
    with wave.open(str(wav)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    waveform = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
    mel = torchaudio.compliance.kaldi.fbank(
        waveform - waveform.mean(),
        htk_compat=True,
        sample_frequency=16000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    return torch.nn.functional.pad(mel, (0, 0, 0, max(0, CLIP_ROWS - len(mel))))[:CLIP_ROWS]


def score_pairwise(audio: Tensor, image: Tensor) -> Tensor:
    """(N, N) scores of (N, F, D) unit vectors: for each pair of clips, the mean over their F x F cosines' diagonal."""
    scores = torch.zeros(len(audio), len(image))
    for query, segments in enumerate(audio):
        for candidate, images in enumerate(image):
            cosines = torch.nn.functional.cosine_similarity(segments[:, None], images[None], dim=-1)
            scores[query, candidate] = cosines.diagonal().mean()
    return scores
