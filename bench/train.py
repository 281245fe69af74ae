#!/usr/bin/env python3
"""Training speed as whole processes: forward + backward + AdamW of this project's engine and of a PyTorch baseline
on the same shapes, in alternating rounds so that both meet the same machine. Prints Markdown tables.

The baseline is a script that takes `--preset NAME --dtype f32 --threads N --steps N --json FILE` and writes
rows[0].forward_backward_adamw with tokens_per_s and tokens_per_cpu_s.

  bench/train.py [--baseline ../shared/peers/torch_train_bench.py] [--rounds 5]
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent


def build():
    """The example's path, built for release."""
    command = ["cargo", "build", "--release", "-p", "ringsmith-model", "--example", "train_bench"]
    lines = subprocess.run([*command, "--message-format", "json"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = [m.get("executable") for m in map(json.loads, lines.stdout.splitlines()) if m.get("executable")]
    if not found:
        sys.exit("cargo named no executable for the example train_bench")
    return found[-1]


def ours(program, preset, threads, steps):
    out = subprocess.run([program, preset, str(threads), str(steps)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def baseline(script, preset, threads, steps):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        command = [sys.executable, str(script), "--preset", preset, "--dtype", "f32", "--threads", str(threads)]
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        subprocess.run([*command, "--steps", str(steps), "--json", str(file)], check=True, capture_output=True, env=env)
        found = json.loads(file.read_text())
    return found["rows"][0]["forward_backward_adamw"] | {"torch": found["torch"]}


def cpu():
    try:
        info = Path("/proc/cpuinfo").read_text()
        return info.split("model name")[1].split("\n")[0].lstrip("\t :") + (", AVX-512" if "avx512f" in info else "")
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def spread(values, digits):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--baseline", type=Path, default=ROOT.parent / "shared/peers/torch_train_bench.py")
    args.add_argument("--program", help="the example train_bench, if it is built already")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--steps", type=int, default=5, help="timed steps of a process, after two to warm up")
    args.add_argument("--presets", nargs="+", default=["nano", "tiny"])
    args.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args = args.parse_args()
    if not args.baseline.is_file():
        sys.exit(f"no baseline at {args.baseline}: name one with --baseline FILE")
    program = args.program or build()
    runs, torch = {}, "?"
    for turn in range(args.rounds):
        for preset in args.presets:
            for threads in args.threads:
                both = [lambda: ours(program, preset, threads, args.steps)]
                both.append(lambda: baseline(args.baseline, preset, threads, args.steps))
                # Who goes first alternates.
                order = (0, 1) if turn % 2 == 0 else (1, 0)
                found = {n: both[n]() for n in order}
                torch = found[1]["torch"]
                runs.setdefault((preset, threads), []).append((found[0], found[1]))
                print(f"round {turn + 1}/{args.rounds}: {preset}, {threads} threads", file=sys.stderr, flush=True)

    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{datetime.date.today()}, {cpu()}, {os.cpu_count()} processors, load {load}, PyTorch {torch}, f32, "
          f"{args.rounds} rounds of {args.steps} steps, medians (least to most).\n")
    print("| preset | threads | ours, tokens/CPU-s | PyTorch, tokens/CPU-s | ratio | ours, tokens/s | PyTorch, tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for (preset, threads), pairs in runs.items():
        column = lambda side, key, digits=0: f"{median(p[side][key] for p in pairs):.{digits}f}"
        ratio = spread([o["tokens_per_cpu_s"] / t["tokens_per_cpu_s"] for o, t in pairs], 2)
        print(f"| {preset} | {threads} | {column(0, 'tokens_per_cpu_s')} | {column(1, 'tokens_per_cpu_s')} | {ratio} | "
              f"{column(0, 'tokens_per_s')} | {column(1, 'tokens_per_s')} |")
    if {1, 2} <= set(args.threads):
        print("\n| preset | ours, two threads : one thread, tokens/s |\n|---|---|")
        for preset in args.presets:
            rounds = zip(runs[preset, 2], runs[preset, 1])
            print(f"| {preset} | {spread([two[0]['tokens_per_s'] / one[0]['tokens_per_s'] for two, one in rounds], 2)} |")


if __name__ == "__main__":
    main()
