"""What of a run is watched while it trains; none of it changes what is computed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How often a run is looked at more closely than its losses."""

    tensorboard: bool = True
    """Write events for TensorBoard into the run folder."""
    every_steps: int | None = 1000
    """Steps between two looks at held-out clips; None never looks."""
    split: str = "test"
    """Role or name of the split that is looked at; a dataset without it is not looked at."""
    max_clips: int = 200
    """Held-out clips at the most; R@1 depends on it, so compare runs with the same number."""
    num_frames: int = 4
    """Frames of each of them, spread over the clip, each with its window."""
    num_pictures: int = 4
    """Clips whose masked, predicted and original picture and log-mel are drawn; 0 draws none."""
    curves: bool = True
    """Draw curves.png when the run ends."""

    def __post_init__(self) -> None:
        steps = self.every_steps
        if steps is not None and steps < 1:
            raise ValueError(f"watch.every_steps={steps} must be at least 1; none never looks.")
        if self.max_clips < 2:
            raise ValueError(
                f"watch.max_clips={self.max_clips} must be at least 2: R@1 among one clip says nothing."
            )
        if self.num_frames < 1:
            raise ValueError(f"watch.num_frames={self.num_frames} must be at least 1.")
        if self.num_pictures < 0:
            raise ValueError(f"watch.num_pictures={self.num_pictures} is negative; 0 draws none.")
