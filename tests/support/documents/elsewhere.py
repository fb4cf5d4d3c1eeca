"""Python that finds the packages of this environment without this package and timm, as that of another project does."""

import os
import subprocess
import sys
from pathlib import Path

# Packages are hidden from every finder, however this one was installed; -S keeps the finder of an editable install out.
_PRELUDE = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *given):
        hidden = name.partition(".")[0] in ("cavsync", "timm")
        return None if hidden else self.finder.find_spec(name, *given)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.path[:0] = {paths!r}
sys.meta_path[:] = map(Without, sys.meta_path)
"""


def run_elsewhere(code: str, folder: Path) -> str:
    """The output of `code`, run in `folder`, which also holds what Hugging Face's libraries write; offline."""
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    environment = os.environ | {"HF_HOME": str(folder / "huggingface"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-S", "-c", _PRELUDE.format(paths=paths) + code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
