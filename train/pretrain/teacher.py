"""The teacher of TG-DP: encoders whose weights are the moving average of the model's, and which see whole inputs."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.encoder import Encoder
from cavsync.model.output import Guidance
from cavsync.train.data.images import normalise_images
from cavsync.train.engine.device import autocast, compile_options
from cavsync.train.engine.optimizer import MovingAverage
from cavsync.train.pretrain.config import PretrainConfig


class Teacher:
    """Begins as a copy of the model's encoders, without its decoder; no gradient reaches it and no optimizer has it.

    Every rank has the same: each averages the same weights, so nothing travels between them.
    """

    def __init__(self, config: PretrainConfig, model: CavMaeSync) -> None:
        assert config.teacher.momentum is not None
        self.precision = config.precision
        self.direction = config.teacher.priority if config.needs_priority else None
        self.encoder = _frozen_copy(model)
        # Position tables are fixed, so they are equal already.
        trained = {name for name, one in model.named_parameters() if one.requires_grad}
        weights: dict[str, Tensor] = {n: one for n, one in self.encoder.named_parameters() if n in trained}
        self.average = MovingAverage(weights, config.teacher.momentum)
        # Without CUDA graphs: what they compute would not outlast the model's forward, which begins after it.
        is_compiled = compile_options(config.compile) is not None
        self._guide = torch.compile(self._guide_part) if is_compiled else self._guide_part

    @torch.no_grad()
    def guide(self, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Guidance, Guidance]:
        """What it says on the clips of all parts: log-mels (clips, time, mels), uint8 images (clips, height, width, 3)."""
        with autocast(parts[0][0].device, self.precision):
            audio, image = zip(*(self._guide(*part) for part in parts), strict=True)
        return _joined(audio), _joined(image)

    def follow(self, model: CavMaeSync) -> None:
        """One step of the average, after each step of the optimizer."""
        self.average.update(model)

    def _guide_part(self, audio: Tensor, image: Tensor) -> tuple[Guidance, Guidance]:
        of_audio = self.encoder.guide_audio(audio, self.direction)
        return of_audio, self.encoder.guide_image(normalise_images(image), self.direction)

    def state_dict(self) -> dict[str, Tensor]:
        return self.encoder.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.encoder.load_state_dict(state)


def num_teacher_parameters(config: PretrainConfig) -> int:
    """Parameters of the teacher, position tables included; 0 without one."""
    if config.teacher.momentum is None:
        return 0
    with torch.device("meta"):
        return sum(one.numel() for one in Encoder(config.model).parameters())


def _joined(parts: Sequence[Guidance]) -> Guidance:
    """The clips of all parts."""
    priorities = [one.priority for one in parts if one.priority is not None]
    return Guidance(torch.cat([one.token for one in parts]), torch.cat(priorities) if priorities else None)


def _frozen_copy(model: CavMaeSync) -> Encoder:
    """The encoders of `model` on its device; built without a random draw, which would change the run's."""
    with torch.device("meta"):
        encoder = Encoder(model.config)
    state = model.state_dict()
    copies = {name: state[name].detach().clone() for name in encoder.state_dict()}
    encoder.load_state_dict(copies, assign=True)
    return encoder.eval().requires_grad_(False)
