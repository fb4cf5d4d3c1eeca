"""The weights of a ViT that timm publishes: fetched once from the Hugging Face hub, and kept in its cache."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cavsync.errors import output_error
from cavsync.model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

TIMM_PREFIX = "timm:"
IMAGENET_MAE = "timm:vit_base_patch16_224.mae"
# The hub's client repeats what failed for minutes; a machine without a network is to be found out before that.
REPLY_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class TimmWeights:
    """A file on the hub with the weights of the ViT that timm calls `name`."""

    name: str
    repository: str
    file_name: str
    licence: str

    @classmethod
    def of(cls, source: str) -> "TimmWeights":
        """Of `timm:NAME`; CheckpointError where timm publishes no such weights."""
        import timm

        name = source.removeprefix(TIMM_PREFIX)
        published = timm.models.get_pretrained_cfg(name) if timm.models.is_model(name) else None
        if published is None or not published.hf_hub_id:
            raise CheckpointError(
                f"timm publishes no weights called {name!r}; CAV-MAE and CAV-MAE Sync take {IMAGENET_MAE}"
            )
        file_name = published.hf_hub_filename or "model.safetensors"
        return cls(name, published.hf_hub_id, file_name, published.license or "not stated")

    @property
    def url(self) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, self.file_name)

    def shapes(self) -> "dict[str, Tensor]":
        """The tensors of the ViT by name, without their values: on the device "meta"."""
        import timm
        import torch

        with torch.device("meta"):
            tensors: dict[str, Tensor] = timm.create_model(
                self.name, pretrained=False, num_classes=0
            ).state_dict()
        return tensors

    def kept(self) -> Path | None:
        """The file on this machine; None where it was not fetched yet."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, self.file_name)
        return Path(path) if isinstance(path, str) else None

    def fetch(self, announce: Callable[[str], None]) -> Path:
        """The file on this machine, fetched and kept if it is not there yet, with an announcement before.

        CheckpointError, which says how to do without the network, where the hub does not answer.
        """
        if (kept := self.kept()) is not None:
            return kept
        from huggingface_hub import get_hf_file_metadata, hf_hub_download

        try:
            size = get_hf_file_metadata(self.url, timeout=REPLY_TIMEOUT_S).size
            announce(self._announcement(size))
            return Path(hf_hub_download(self.repository, self.file_name, etag_timeout=REPLY_TIMEOUT_S))
        # The errors of the hub's client and of its HTTP library have no base in common.
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise output_error(_cache(), error, "HF_HOME=FOLDER names it") from error
            raise CheckpointError(self._without_network(error)) from error

    def tensors(self) -> "tuple[dict[str, Tensor], str]":
        """The weights by timm's names, and the revision of their file; fetched where they are not kept."""
        import timm

        file = self.fetch(logger.info)
        try:
            model = timm.create_model(
                self.name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(file)}
            )
        # Damaged bytes and other tensors make the readers raise anything.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{file} cannot be read as the weights of {self.name}: {reason}. Delete it, and it is fetched again."
            ) from error
        tensors: dict[str, Tensor] = model.state_dict()
        return tensors, file.parent.name  # the hub's cache has a folder for each revision

    def _announcement(self, size: int | None) -> str:
        return (
            f"Fetching the initial weights {TIMM_PREFIX}{self.name} ({self._megabytes(size)}, licence {self.licence}), "
            f"once:\n  from {self.url}\n  into {_cache()}; HF_HOME=FOLDER names another folder.\n"
            "A machine without a network: fetch that file elsewhere, bring it, and give it with --set "
            "initial_weights=FILE.\nRandom weights instead, which are another recipe: --set initial_weights=none."
        )

    def _without_network(self, error: Exception) -> str:
        reason = (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
        return (
            f"{TIMM_PREFIX}{self.name} ({self._megabytes(None)}) is not in {_cache()} and cannot be fetched: {reason}. "
            f"Where there is a network, fetch it with `curl -LO {self.url}`, bring the file here, and give it with --set "
            f"initial_weights={self.file_name}. Random weights instead, which are another recipe: --set "
            "initial_weights=none."
        )

    def _megabytes(self, size: int | None) -> str:
        """The size of the file, or that of its tensors where the hub does not say."""
        size = size or sum(tensor.nbytes for tensor in self.shapes().values())
        return f"{size / 1e6:.0f} MB"


def _cache() -> str:
    """The folder in which the hub's client keeps files."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE
