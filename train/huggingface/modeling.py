"""CAV-MAE Sync for transformers: a model of audio and images, and a classifier of videos.

The processor beside this file makes `input_values`, normalised log-mels of audio segments, and `pixel_values`,
normalised images, from waveforms and frames.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.files.records import MODEL_TYPE
from cavsync.model.classifier import AttentionHead, CavMaeClassifier
from cavsync.model.classifier_config import ClassifierConfig, cavmae_finetuning
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import TOKEN_STD, Encoder
from cavsync.model.output import Encoding


class CavMaeSyncConfig(PreTrainedConfig):
    """The configuration of a folder: the model's, the classifier's where it is one, its inputs and its training."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        model_config: dict[str, Any] | None = None,
        classifier_config: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Without `model_config` it is that of the released CAV-MAE Sync.

        `inputs` are the statistics that the processor normalises with, `training` records how the model came to be.
        """
        self.model_config = asdict(ModelConfig(**(model_config or {})))
        self.classifier_config = classifier_config
        self.inputs = inputs
        self.training = training
        super().__init__(**kwargs)


@dataclass
class CavMaeSyncOutput(ModelOutput):
    """Embeddings of audio and of images, what they were made from, and the loss of pretraining where it is asked for."""

    loss: Tensor | None = None
    """Scalar: the weighted sum of the reconstruction losses and the contrastive one, under random masks."""
    logits_audio_image: Tensor | None = None
    """(audio segments, images): cosines."""
    audio_embeds: Tensor | None = None
    """(batch, dim): unit vectors."""
    image_embeds: Tensor | None = None
    """(batch, dim): unit vectors."""
    audio_outputs: BaseModelOutputWithPooling | None = None
    """`last_hidden_state`: the patches, (batch, frequency, time, dim); `pooler_output`: the global token, (batch, dim)."""
    image_outputs: BaseModelOutputWithPooling | None = None
    """`last_hidden_state`: the patches, (batch, rows, columns, dim); `pooler_output`: the global token, (batch, dim)."""


class CavMaeSyncPreTrainedModel(PreTrainedModel):
    """What both models share: names, and initial weights."""

    config_class = CavMaeSyncConfig
    base_model_prefix = "model"
    main_input_name = "input_values"
    input_modalities = ("audio", "image")
    _no_split_modules = ("Block", "JointBlock")

    def _init_weights(self, module: Any) -> None:
        """Weights that no file gives, such as those of a new head; transformers keeps the others from being changed."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, AttentionHead):
            nn.init.normal_(module.token, std=TOKEN_STD)
        elif isinstance(module, Encoder) and not any(map(_was_read, module.parameters())):
            module._initialise()


class CavMaeSyncModel(CavMaeSyncPreTrainedModel):
    """The pretrained model; `model` is the network itself, with every stage of it."""

    def __init__(self, config: CavMaeSyncConfig) -> None:
        super().__init__(config)
        self.model = CavMaeSync(ModelConfig(**config.model_config))
        self.post_init()

    def get_audio_embeds(self, input_values: Tensor) -> Tensor:
        """Unit vectors, (..., dim), of normalised log-mels (..., time, mels)."""
        return normalize(self.encode_audio(input_values).pooler_output, dim=-1)

    def get_image_embeds(self, pixel_values: Tensor) -> Tensor:
        """Unit vectors, (..., dim), of normalised images (..., 3, height, width)."""
        return normalize(self.encode_image(pixel_values).pooler_output, dim=-1)

    def encode_audio(self, input_values: Tensor) -> Any:
        """The global token, (..., dim), and the patches, (..., frequency, time, dim), of log-mels (..., time, mels)."""
        return _encoded(self.model.encode_audio, input_values, item_axes=2)

    def encode_image(self, pixel_values: Tensor) -> Any:
        """The global token, (..., dim), and the patches, (..., rows, columns, dim), of images (..., 3, height, width)."""
        return _encoded(self.model.encode_image, pixel_values, item_axes=3)

    def forward(
        self,
        input_values: Tensor | None = None,
        pixel_values: Tensor | None = None,
        return_loss: bool = False,
    ) -> CavMaeSyncOutput:
        """Encodes audio segments (batch, time, mels), images (batch, 3, height, width), or both.

        With `return_loss` also the loss of pretraining of the pairs: row i of one belongs to row i of the other.
        """
        if input_values is None and pixel_values is None:
            raise ValueError("give input_values, pixel_values or both, as the processor makes them")
        audio = None if input_values is None else self.encode_audio(input_values)
        image = None if pixel_values is None else self.encode_image(pixel_values)
        audio_embeds = None if audio is None else normalize(audio.pooler_output, dim=-1)
        image_embeds = None if image is None else normalize(image.pooler_output, dim=-1)
        cosines = None if audio_embeds is None or image_embeds is None else audio_embeds @ image_embeds.mT
        return CavMaeSyncOutput(
            loss=self._loss(input_values, pixel_values) if return_loss else None,
            logits_audio_image=cosines,
            audio_embeds=audio_embeds,
            image_embeds=image_embeds,
            audio_outputs=audio,
            image_outputs=image,
        )

    def _loss(self, input_values: Tensor | None, pixel_values: Tensor | None) -> Tensor:
        if input_values is None or pixel_values is None:
            raise ValueError(
                "return_loss=True needs input_values and pixel_values: the loss is that of pairs"
            )
        loss: Tensor = self.model(input_values, pixel_values).loss
        return loss


@dataclass
class CavMaeSyncClassifierOutput(ModelOutput):
    """Predictions for videos."""

    loss: Tensor | None = None
    """Scalar, where labels were given."""
    logits: Tensor | None = None
    """(videos, classes): the mean over the frames."""
    frame_logits: Tensor | None = None
    """(videos, frames, classes), or (videos, 1, classes) from a head that takes all frames at once."""


class CavMaeSyncForVideoClassification(CavMaeSyncPreTrainedModel):
    """A classifier of videos, of their audio, their frames or both.

    A folder that holds no classifier gives a new head for `num_labels` classes, which takes audio and images.
    """

    _keys_to_ignore_on_load_unexpected = (r"^model\.decoder_", r"^model\.mask_token")

    def __init__(self, config: CavMaeSyncConfig) -> None:
        super().__init__(config)
        if config.classifier_config is None:
            config.classifier_config = asdict(cavmae_finetuning(config.num_labels))
        classifier = ClassifierConfig(**config.classifier_config)
        self.model = CavMaeClassifier(ModelConfig(**config.model_config), classifier)
        self.post_init()

    def forward(
        self,
        input_values: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> CavMaeSyncClassifierOutput:
        """Classifies videos by audio segments (videos, frames, time, mels) and images (videos, frames, 3, height, width).

        Without the axis of frames each video has one. `labels` are class numbers (videos,), or floats
        (videos, classes) where a video may have several classes.
        """
        audio = input_values if input_values is None or input_values.ndim == 4 else input_values.unsqueeze(1)
        image = pixel_values if pixel_values is None or pixel_values.ndim == 5 else pixel_values.unsqueeze(1)
        frame_logits = self.model.frame_logits(audio, image)
        logits = frame_logits.mean(dim=1)
        loss = None
        if labels is not None:
            several = labels.is_floating_point()
            loss = (
                binary_cross_entropy_with_logits(logits, labels) if several else cross_entropy(logits, labels)
            )
        return CavMaeSyncClassifierOutput(loss=loss, logits=logits, frame_logits=frame_logits)


def _was_read(parameter: nn.Parameter) -> bool:
    """Whether transformers filled it from a file."""
    return getattr(parameter, "_is_hf_initialized", False)


def _encoded(encode: Callable[[Tensor], Encoding], batch: Tensor, item_axes: int) -> Any:
    """Encodes (..., *item), whose leading axes are those of the outputs."""
    leading = batch.shape[:-item_axes]
    encoding = encode(batch.reshape(-1, *batch.shape[-item_axes:]))
    return BaseModelOutputWithPooling(
        last_hidden_state=encoding.patches.reshape(*leading, *encoding.patches.shape[1:]),
        pooler_output=encoding.global_token.reshape(*leading, -1),
    )
