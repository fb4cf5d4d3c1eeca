"""Decodes a listed clip: from its plan row to its frames, its log-mel, its audio file and its row of the index."""

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow, KeptAudio, MediaFacts
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import PreparedClip
from cavsync.pipeline.media.audio_file import encoded_audio
from cavsync.pipeline.media.backends.choice import open_media
from cavsync.pipeline.media.decode import DecodedClip, KeptWaveform
from cavsync.pipeline.media.mel import is_silent, log_mel
from cavsync.pipeline.storage.path import MediaPath


def prepare_clip(row: PlanRow, config: PrepareConfig, source: MediaPath | None = None) -> PreparedClip:
    """Decode the clip of a plan row that has a video. A clip that cannot be prepared gets a state, no exception."""
    media: MediaFacts | None = None
    try:
        with open_media(source or str(row.source), config.clip_timeout_s, config.decoder) as opened:
            media = opened.facts
            clip = opened.decode(float(row.source_start_s or 0.0), row.end_s - row.start_s, config)
    except MediaError as error:
        return PreparedClip(IndexRow.of(row, error.state, error.reason, media))
    mel = log_mel(clip.waveform).astype(np.float16)  # as stored, so that sums over it are of what is read
    facts, kept = _clip_facts(clip, len(mel), config), clip.kept_audio
    prepared = IndexRow.of(
        row, ClipState.OK, media=media, clip=facts, kept=None if kept is None else _kept_facts(kept)
    )
    if config.keep is not None:
        from cavsync.pipeline.curation.clip_filter import ClipFilter  # loads pyarrow, for those who filter

        reason = ClipFilter(config.keep).reason_against(prepared)
        if reason is not None:
            return PreparedClip(IndexRow.of(row, ClipState.FILTERED, reason, media))
    audio = None if kept is None else encoded_audio(kept.samples, kept.rate_hz, kept.codec)
    return PreparedClip(prepared, clip.frames, mel, audio)


def _kept_facts(kept: KeptWaveform) -> KeptAudio:
    return KeptAudio(kept_codec=kept.codec, kept_rate_hz=kept.rate_hz, kept_channels=len(kept.samples))


def _clip_facts(clip: DecodedClip, num_mel_rows: int, config: PrepareConfig) -> ClipFacts:
    starts = window_starts(clip.frame_pts_s, num_mel_rows, config.window_rows, config.alignment)
    return ClipFacts(
        duration_s=clip.duration_s,
        frame_pts_s=clip.frame_pts_s.tolist(),
        num_mel_rows=num_mel_rows,
        window_start=starts.tolist(),
        window_stop=(starts + config.window_rows).tolist(),
        silent=is_silent(clip.waveform),
        still=clip.still,
        orientation=clip.orientation,
        audio_channel=clip.audio_channel,
        audio_gaps_s=clip.audio_gaps_s,
        frame_gaps_s=clip.frame_gaps_s,
    )
