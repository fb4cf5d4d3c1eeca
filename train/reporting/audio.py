"""Makes the audio of a prepared clip playable: as it was kept, else from its source video, else from its log-mel."""

from dataclasses import dataclass

import numpy as np
import torch
from torchaudio.functional import griffinlim, lfilter

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.index_row import IndexRow
from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.inspection.clips import source_audio
from cavsync.pipeline.media.audio import resampled
from cavsync.pipeline.media.audio_file import decoded_audio
from cavsync.pipeline.media.encode import mp3_bytes
from cavsync.pipeline.media.mel import FFT_SAMPLES, FRAME_SAMPLES, PREEMPHASIS, SHIFT_SAMPLES, mel_filters
from cavsync.pipeline.storage.filesystem import StoreError

NUM_ITERATIONS = 32
PEAK = 0.5  # of audio made from its log-mel, whose loudness is lost with the phase


@dataclass(frozen=True)
class ClipAudio:
    mp3: bytes
    from_mel: bool  # reconstructed from the log-mel, so it is not what was recorded


def playable_audio(
    row: IndexRow,
    stored: ClipContent,
    channel: AudioChannel,
    decoder: DecoderProcess,
    archives: ArchiveSet | None = None,
) -> ClipAudio:
    """The audio of an index row, whose source may lie in `archives`; `stored` is what its shard holds of it."""
    if row.kept is not None and stored.audio is not None:
        samples = decoded_audio(stored.audio, row.kept.kept_codec, row.kept.kept_rate_hz)
        mono = resampled(samples.mean(axis=0), row.kept.kept_rate_hz)
        return ClipAudio(mp3_bytes(mono), from_mel=False)
    try:
        return ClipAudio(mp3_bytes(source_audio(row, channel, decoder, archives)), from_mel=False)
    except (MediaError, StoreError):  # shards travel without the videos that they were made from
        return ClipAudio(mp3_bytes(waveform_of_mel(stored.mel)), from_mel=True)


def waveform_of_mel(mel: np.ndarray) -> np.ndarray:
    """(samples,) at 16 kHz whose log-mel resembles `mel`: Griffin and Lim's method finds phases that agree."""
    filters = torch.from_numpy(mel_filters())  # (256, 128)
    energy = torch.from_numpy(mel.astype(np.float32)).exp()
    # At each frequency the weights of the triangles over it add up to one: their mean energies mix by them.
    spectrum = energy @ (filters / filters.sum(0, keepdim=True).clamp(min=1e-6)).T
    power = torch.nn.functional.pad(
        spectrum, (0, 1)
    ).T  # (257, rows): the filters leave out the highest frequency
    emphasised = griffinlim(
        power,
        window=torch.hann_window(FRAME_SAMPLES, periodic=False),
        n_fft=FFT_SAMPLES,
        hop_length=SHIFT_SAMPLES,
        win_length=FRAME_SAMPLES,
        power=2.0,
        n_iter=NUM_ITERATIONS,
        momentum=0.99,
        length=None,
        rand_init=False,
    )
    plain = lfilter(emphasised, torch.tensor([1.0, -PREEMPHASIS]), torch.tensor([1.0, 0.0]), clamp=False)
    waveform: np.ndarray = (plain * PEAK / plain.abs().max().clamp(min=1e-9)).numpy()
    return waveform
