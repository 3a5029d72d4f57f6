"""How long ``import sotopia_gym`` takes, against what it stands on.

    python -m eval.import_time

The two imports alternate in fresh processes, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
OURS = "import sotopia_gym"
BASE = "import gymnasium, pettingzoo, pydantic"


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that runs ``statement``, beyond an empty one."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    for statement in (OURS, BASE):
        seconds(statement)
    ours, base, ratios = [], [], []
    for _ in range(RUNS):
        empty = seconds("pass")
        ours.append(seconds(OURS) - empty)
        base.append(seconds(BASE) - empty)
        ratios.append(ours[-1] / base[-1])
    print(f"{OURS}: median {statistics.median(ours) * 1000:.0f} ms over {RUNS} runs")
    print(f"{BASE}: median {statistics.median(base) * 1000:.0f} ms")
    print(f"ratio: median {statistics.median(ratios):.2f} (at most 1.25 is wanted)")


if __name__ == "__main__":
    main()
