"""Every benchmark of speed and memory, one after the other, each in a process of its own.

    python -m benchmarks

A benchmark that fails does not stop those after it; the command then ends with status 1 and names it.
"""

import subprocess
import sys
import time

NAMES = ("scaling", "prepare", "archives", "load", "step", "localize", "score", "plan", "start")


def main() -> None:
    failed = [name for name in NAMES if not _succeeds(name)]
    if failed:
        sys.exit(
            f"{len(failed)} of {len(NAMES)} benchmarks failed: {', '.join(failed)}; their last lines are above"
        )


def _succeeds(name: str) -> bool:
    began_s = time.monotonic()
    status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
    print(f"benchmarks.{name}: {time.monotonic() - began_s:.0f} s\n", flush=True)
    return status == 0


if __name__ == "__main__":
    main()
