"""The classifier at step 0: pretrained encoders under a head, and the inputs that they were trained on."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import parse_fields
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.engine.config import ConfigError
from cavsync.train.finetune.config import FinetuneConfig


@dataclass(frozen=True)
class InitialWeights:
    """The model that `initial_weights` names, and its file."""

    weights: Path
    model: CavMaeSync | CavMaeClassifier
    trained: DataConfig
    """The inputs that the weights were trained on."""

    @classmethod
    def load(cls, config: FinetuneConfig) -> "InitialWeights":
        """ConfigError where none is given, CheckpointError where the file holds no model of ours or upstream's."""
        if config.initial_weights is None:
            raise ConfigError(
                "initial_weights=None: name the weights that the encoders start from, with --from RUN or --from FILE."
            )
        fields = parse_fields(config.initial_fields)
        if config.audio_rows is not None:
            fields["audio_rows"] = config.audio_rows
        loaded = LoadedCheckpoint.load(config.initial_weights, **fields)
        assert isinstance(loaded.model, CavMaeSync | CavMaeClassifier), "files hold one of these"
        return cls(loaded.weights, loaded.model, loaded.inputs)

    def inputs(self, data: DataConfig) -> DataConfig:
        """`data` with the log-mel statistics and the alignment of these weights, where it names none.

        Those are the run's that the weights lie in, or those of published weights.
        """
        trained = self.trained
        data = replace(data, alignment=data.alignment or trained.frame_alignment)
        if data.mel_mean is not None:
            return data
        pad_value = trained.pad_value if data.pad_value is None else data.pad_value
        return replace(data, mel_mean=trained.mel_mean, mel_std=trained.mel_std, pad_value=pad_value)

    def classifier(self, config: FinetuneConfig, num_classes: int) -> CavMaeClassifier:
        """These encoders under the head of `config`: a fresh one by the run's seed, or, with keep_head, the stored one."""
        torch.manual_seed(config.seed)
        wanted = config.head.classifier(num_classes, self.model.config)
        fresh = CavMaeClassifier.from_pretrained(self.model, wanted)
        if config.keep_head:
            fresh.load_state_dict(self._with_head(wanted).state_dict())
        if config.frozen:
            fresh.freeze_encoder()
        return fresh

    def _with_head(self, wanted: ClassifierConfig) -> CavMaeClassifier:
        """The classifier that was stored; ConfigError where its head is another one."""
        if not isinstance(self.model, CavMaeClassifier):
            raise ConfigError(f"keep_head=True, but {self.weights} is a pretrained model and has no head.")
        stored, asked = asdict(self.model.classifier), asdict(wanted)
        other = [
            f"{name} is {stored[name]}, not {asked[name]}" for name in stored if stored[name] != asked[name]
        ]
        if other:
            raise ConfigError(
                f"keep_head=True, but {self.weights} has another head: {'; '.join(other)}. Set head.* to match, "
                "or leave keep_head off to start with a fresh one."
            )
        return self.model
