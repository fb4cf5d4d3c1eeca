"""Opens the image that a row of a list names, and names the row that fails."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class RowError(Exception):
    """A row that cannot be scored."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


def open_rgb(path: Path) -> Tensor:
    """uint8 (height, width, 3); raises RowError for what is no image."""
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except FileNotFoundError as error:
        raise RowError("missing", f"{path} is not there") from error
    except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG
        raise RowError("broken_image", f"{path} cannot be read as an image: {error}") from error
