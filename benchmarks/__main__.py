"""Every benchmark of speed and memory, one after the other, each in a process of its own.

python -m benchmarks
"""

import subprocess
import sys
import time

NAMES = ("scaling", "prepare", "load", "step", "score", "plan", "start")


def main() -> None:
    for name in NAMES:
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
        print(f"benchmarks.{name}: {time.monotonic() - began_s:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
