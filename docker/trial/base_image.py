"""Makes a stand-in for the base image python:3.11.9-slim-bookworm, for a machine that reaches Debian but no image registry.

It is Debian bookworm by debootstrap with Debian's Python 3.11, and an environment in /usr/local, so that `python` and
`pip` are where the official image has them and install into /usr/local/lib. It is not the official image: the Python
is Debian's build of another 3.11 release, pip is the one that came with it, and manuals are not stripped.
"""

import subprocess
import tempfile
from pathlib import Path

from engine import TrialError, output, require_programs, require_root, run

NAME = "docker.io/library/python:3.11.9-slim-bookworm"
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_base_image(mirror: str) -> None:
    """Import the stand-in under the base image's name; an image of that name stays as it is."""
    require_root()
    require_programs("debootstrap", "podman", "tar")
    if exists(NAME):
        raise TrialError(f"there is an image {NAME} already: `podman rmi {NAME}` before another is made")
    with tempfile.TemporaryDirectory() as folder:
        system = Path(folder) / "system"
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(system), mirror])
        run(["chroot", str(system), "python3", "-m", "venv", "/usr/local"])
        for archive in (system / "var/cache/apt/archives").glob("*.deb"):
            archive.unlink()
        _import(system)


def exists(image: str) -> bool:
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def _import(system: Path) -> None:
    archive = system.with_suffix(".tar")
    output(["tar", "-C", str(system), "-cf", str(archive), "."])
    changes = [f"--change=ENV PATH={PATH}", '--change=CMD ["python3"]']
    run(["podman", "import", *changes, str(archive), NAME])
