"""Records of a pretraining run."""

from dataclasses import dataclass

from cavsync.train.engine.metrics import Losses, RunFacts


@dataclass(frozen=True, kw_only=True)
class PretrainFacts(RunFacts):
    """A pretraining run before its first step."""

    stored_frame: tuple[int, int]  # height and width of the dataset's frames
    image_size: int  # resized to this where it differs
    group_size: int  # clips that the contrastive loss compares with each other
    num_teacher_parameters: int = 0  # which are not trained


@dataclass(frozen=True, kw_only=True)
class PretrainLosses(Losses):
    """The loss of a step and its unweighted parts, over all ranks."""

    reconstruction_audio: float
    reconstruction_image: float
    contrastive: float
    accuracy: float  # fraction of the clips whose partner scores highest in their group


@dataclass(frozen=True, kw_only=True)
class TaughtLosses(PretrainLosses):
    """The same of a run with a teacher."""

    distillation: float
