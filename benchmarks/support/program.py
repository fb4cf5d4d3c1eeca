"""The `cavsync` program of this environment, as a user starts it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("cavsync")


def cavsync(*arguments: str | Path) -> str:
    """What the command prints; where it fails, the benchmark ends with its messages."""
    ended = subprocess.run([PROGRAM, *arguments], check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"cavsync {' '.join(map(str, arguments))} failed:\n{ended.stdout}{ended.stderr}")
    return ended.stdout
