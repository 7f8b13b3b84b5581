"""Does the demo learn on every seed? Runs `agentlightning demo` for each and prints held-out greedy accuracy before and after.

python benchmarks/demo_seeds.py --seeds 0 1 2 3 4
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time

TOLD = re.compile(r"questions\): ([\d.]+) before, ([\d.]+) after (\d+) steps")


def measure(seed: int) -> tuple[float, float, int, float]:
    "Accuracy before and after, the step of the best weights, and wall seconds with the start of Python."
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        command = [sys.executable, "-m", "agentlightning_nb.cli", "demo", "--seed", str(seed)]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=900)
        wall = time.monotonic() - started
    found = TOLD.search(done.stdout)
    if found is None:
        raise SystemExit(
            f"Seed {seed} told no accuracy (exit code {done.returncode}):\n{done.stdout}\n{done.stderr[-2000:]}"
        )
    return float(found[1]), float(found[2]), int(found[3]), wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    seeds = parser.parse_args().seeds
    print("| seed | before | after | best at step | wall s |\n|---|---|---|---|---|", flush=True)
    results = []
    for seed in seeds:
        before, after, step, wall = measure(seed)
        results.append((before, after))
        print(f"| {seed} | {before:.3f} | {after:.3f} | {step} | {wall:.0f} |", flush=True)
    learned = sum(before <= 0.2 and after >= 0.95 for before, after in results)
    print(f"\n{learned} of {len(seeds)} seeds rose from at most 0.2 to at least 0.95.")
    return 0 if learned == len(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
