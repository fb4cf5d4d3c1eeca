"""Models on the Hugging Face hub, through huggingface_hub's mixin: `push_to_hub` and `from_pretrained`.

`load_model` reads the folder that is pushed, or saved by `save_pretrained`, too: its `model.safetensors` holds the
configuration and the training record. The mixin's `config.json` repeats the configuration.
"""

from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import AnyModel, Checkpoint, open_checkpoint, save_model
from cavsync.model.checkpoints.files.records import WEIGHTS_NAME, read_folder_config
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.config import ModelConfig
from cavsync.model.errors import CheckpointError

DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
MODEL_CARD = """---
{{ card_data }}
---

An audio-visual model, trained with cavsync. `cavsync checkpoint inspect FOLDER` prints its configuration and how it
was trained.

```python
from cavsync.model.checkpoints.hub import {{ class_name }}

model = {{ class_name }}.from_pretrained("OWNER/NAME")
```

Paper: {{ paper_url }}
"""


class _Published(
    PyTorchModelHubMixin,
    library_name="cavsync",
    paper_url="https://arxiv.org/abs/2505.01237",
    tags=["audio-visual", "cav-mae-sync"],
    model_card_template=MODEL_CARD,
):
    """The mixin with our files: every tensor must be there, and the training record is kept."""

    kind: type[AnyModel]
    training_record: dict[str, Any] | None = None
    """How the model was trained, where its file records it."""
    inputs_record: dict[str, Any] | None = None
    """How a log-mel is normalised, where its file records that apart."""

    @classmethod
    def from_checkpoint(cls, path: Path | str, **overrides: Any) -> Self:
        """The model at `path`, as `load_model` takes it, ready to be pushed."""
        return cls._of(open_checkpoint(path, **overrides))

    @classmethod
    def _of(cls, checkpoint: Checkpoint) -> Self:
        model = checkpoint.build()
        if not isinstance(model, cls.kind):
            other = "HubClassifier" if cls.kind is CavMaeSync else "HubModel"
            raise CheckpointError(f"{checkpoint.file.path} is a {type(model).__name__}: use {other}")
        configs = (model.config, model.classifier) if isinstance(model, CavMaeClassifier) else (model.config,)
        with torch.device("meta"):
            published = cls(*configs)
        assert isinstance(published, CavMaeSync | CavMaeClassifier)
        published.load_state_dict(model.state_dict(), assign=True)
        published.eval()
        published.training_record = checkpoint.file.training
        published.inputs_record = checkpoint.file.inputs
        return published

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        return super().generate_model_card(*args, class_name=type(self).__name__, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self, CavMaeSync | CavMaeClassifier)
        save_model(self, save_directory, self.training_record, self.inputs_record)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config: Any = None, **options: Any) -> Self:
        """`options` are those of the download and, as in `load_model`, fields of the configuration."""
        download = {name: options.pop(name) for name in DOWNLOAD_OPTIONS}
        folder = Path(model_id)
        file = (
            folder / WEIGHTS_NAME
            if folder.is_dir()
            else Path(hf_hub_download(model_id, WEIGHTS_NAME, **download))
        )
        checkpoint = open_checkpoint(file, **options)
        is_mixins = read_folder_config(file) is None  # and not that of a folder for transformers
        if is_mixins and isinstance(config, ModelConfig) and config != checkpoint.stored.model:
            raise CheckpointError(
                f"config.json of {model_id} describes another model than {WEIGHTS_NAME} holds: push both together"
            )
        return cls._of(checkpoint)


class HubModel(_Published, CavMaeSync):
    """A pretrained model with `push_to_hub` and `from_pretrained`."""

    kind = CavMaeSync


class HubClassifier(_Published, CavMaeClassifier):  # type: ignore[misc]  # both have a from_pretrained
    """A classifier with `push_to_hub`; its `from_pretrained` is the mixin's."""

    kind = CavMaeClassifier
