"""The folder of somebody who follows README and docs, at a tiny size: what the examples of the pages name is there."""

import shutil
from pathlib import Path

from support.known_shards import micro_run
from support.media import write_clip

from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.world import make_world
from cavsync.train.pretrain.trainer import pretrain


def write_media(home: Path) -> None:
    """A world of 5 clips as world/, whose lists and videos are raw/ too; a folder VIDEOS, three videos and a bell.wav."""
    make_world(WorldConfig(num_train=2, num_test=3), home / "world")
    (home / "raw").symlink_to(home / "world" / "raw")
    (home / "VIDEOS").mkdir()
    write_clip(home / "holiday.mp4", duration_s=3.0)
    shutil.copy(next((home / "raw/vggsound/videos").iterdir()), home / "talk.mp4")
    for copy in ("party.mp4", "VIDEOS/one.mp4", "VIDEOS/two.mp4", "VIDEOS/three.mp4"):
        shutil.copy(home / "holiday.mp4", home / copy)
    write_clip(
        home / "bell.wav", duration_s=1.0, video_codec=None, audio_codec="pcm_s16le", sample_rate=16000
    )


def train_run(dataset: Path, run: Path) -> None:
    """Four steps of a micro model, whose audio segments last 0.32 s."""
    pretrain(micro_run(dataset), run, device="cpu")
