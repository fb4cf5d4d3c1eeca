"""The small world of a study that gives none of its own data: videos, and the dataset that is prepared from them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.jobs.prepare import prepare
from cavsync.pipeline.jobs.work import Workers
from cavsync.pipeline.lists.listing import official_listing
from cavsync.pipeline.lists.manifest import load_manifest
from cavsync.pipeline.synthetic.config import WorldConfig
from cavsync.pipeline.synthetic.world import list_clips, make_world

# Called with how many clips are done, of how many.
OnClip = Callable[[int, int], None]


class _Counted:
    """Reports a preparation as a count of clips."""

    def __init__(self, on_clip: OnClip, log: Callable[[str], None]) -> None:
        self._on_clip, self.log = on_clip, log

    def start(self, num_clips: int, num_done: int) -> None:
        self._total, self._done = num_clips, num_done

    def clips(self, states: Mapping[ClipState, int]) -> None:
        self._done += sum(states.values())
        self._on_clip(self._done, self._total)


def make_study_world(
    config: WorldConfig, root: Path, workers: Workers, on_clip: OnClip, log: Callable[[str], None]
) -> Path:
    """The dataset of the world of `config` below `root`; what is there is left as it is."""
    world, total, done = root / "world", len(list_clips(config)), 0

    def count() -> None:
        nonlocal done
        done += 1
        on_clip(done, total)

    make_world(config, world, workers.number, count)
    listing = official_listing(load_manifest("vggsound"), world, None, [], "cut")
    stored = PrepareConfig(frame_size=config.side_px)
    reporter = _Counted(on_clip, log)
    prepare(listing, root / "data", stored, workers, reporter, videos_moved=True)
    return root / "data"
