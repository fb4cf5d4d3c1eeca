"""Podman as a function, and the error that names the command which failed."""

import os
import shutil
import subprocess


class TrialError(Exception):
    """The trial cannot go on; the message says why."""


def require_root() -> None:
    if os.geteuid() != 0:
        raise TrialError("network namespaces and debootstrap need root: repeat with sudo")


def require_programs(*names: str) -> None:
    """Each is in the Debian package of its name, but `ip`, which is in iproute2."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise TrialError(f"not installed: {', '.join(missing)}")


def run(command: list[str]) -> None:
    """Run `command` with its output in this terminal."""
    print("+", " ".join(command), flush=True)
    if code := subprocess.run(command, check=False).returncode:
        raise TrialError(f"exit code {code} of: {' '.join(command)}")


def output(command: list[str]) -> str:
    """What `command` printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise TrialError(f"exit code {result.returncode} of: {' '.join(command)}\n{result.stderr.strip()}")
    return result.stdout
