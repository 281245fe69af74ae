#!/usr/bin/env python3
"""The miniature over several seeds: runs recipes/tiny.toml with each, then prints Markdown tables of the scores by task
and of what the issue of the paper asks, seed by seed. A store that is there already is not made again.

  bench/seeds.py [--seeds 1 2 3] [--stores /tmp/tiny-seeds] [--program target/release/ringsmith]
"""

import argparse
import json
import re
import subprocess
import time
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
MODELS = ["base", "stage1", "stage2", "dpo"]


def wilson(right, asked):
    z = 1.959963984540054
    p, n = right / asked, asked
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    return 100 * (middle - half), 100 * (middle + half)


def run(program, recipe, store):
    clock = time.monotonic()
    subprocess.run([program, "run", recipe, "--store", store], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - clock
    out = subprocess.run([program, "show", "report", "--json", "--store", store], check=True, capture_output=True)
    return json.loads(out.stdout), seconds


def tables(reports):
    models = {s: {m["model"]: m for m in r["models"]} for s, r in reports.items()}
    first = next(iter(models.values()))
    lines = ["| | base | stage 1 | stage 2 | DPO |", "|---|---|---|---|---|"]
    for group in ["reasoning", "general"]:
        for task in [t["task"] for t in first["base"]["tasks"] if t["group"] == group]:
            cells = []
            for name in MODELS:
                found = [t for s in models.values() for t in s[name]["tasks"] if t["task"] == task]
                right, asked = sum(t["correct"] for t in found), sum(t["total"] for t in found)
                low, high = wilson(right, asked)
                cells.append(f"{100 * right / asked:.1f} [{low:.0f}, {high:.0f}]")
            lines.append(f"| {task} | " + " | ".join(cells) + " |")
        cells = []
        for name in MODELS:
            found = [s[name][group] for s in models.values()]
            cells.append(f"**{mean(found):.1f}** ({min(found):.1f} to {max(found):.1f})")
        lines.append(f"| **{group} mean** | " + " | ".join(cells) + " |")
    wrong = [", ".join(str(s[name]["think_wrong"]) for s in models.values()) for name in MODELS]
    lines.append(f"| wrong `<think>` pairs of {first['base']['think_total']}, by seed | " + " | ".join(wrong) + " |")

    lines += ["", "| seed | base general / reasoning | stage 1 reasoning | stage 1 general | won back by stage 2 | "
              "reasoning, stage 2 less stage 1 | wrong pairs, stage 2 to DPO | DPO reasoning / general |",
              "|---|---|---|---|---|---|---|---|"]
    for seed, m in models.items():
        base, one, two, dpo = (m[name] for name in MODELS)
        back = (two["general"] - one["general"]) / (base["general"] - one["general"])
        cut = 1 - dpo["think_wrong"] / max(two["think_wrong"], 1)
        met = [base["general"] >= 70, one["reasoning"] - base["reasoning"] >= 20, base["general"] - one["general"] >= 25,
               back >= 0.83, two["reasoning"] - one["reasoning"] >= -2, cut >= 0.6,
               min(dpo[g] - two[g] for g in ["reasoning", "general"]) >= -2]
        lines.append(
            f"| {seed} ({sum(met)} of {len(met)} met) | {base['general']:.1f} / {base['reasoning']:.1f} | "
            f"{one['reasoning'] - base['reasoning']:+.1f} | {one['general'] - base['general']:+.1f} | {100 * back:.0f} % | "
            f"{two['reasoning'] - one['reasoning']:+.1f} | {two['think_wrong']} to {dpo['think_wrong']} ({-100 * cut:.0f} %) | "
            f"{dpo['reasoning'] - two['reasoning']:+.1f} / {dpo['general'] - two['general']:+.1f} |")
    lines.append("| asked | at least 70 / weak | at least +20 | at most -25 | at least 83 % | at least -2 | at most -60 % | "
                 "at least -2 |")
    return lines


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--stores", type=Path, default=Path("/tmp/tiny-seeds"))
    options.add_argument("--program", default=str(ROOT / "target/release/ringsmith"))
    options = options.parse_args()
    options.stores.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "recipes/tiny.toml").read_text()
    reports, times = {}, []
    for seed in options.seeds:
        recipe = options.stores / f"tiny-{seed}.toml"
        recipe.write_text(re.sub(r"(?m)^seed = .*$", f"seed = {seed}", text, count=1))
        reports[seed], seconds = run(options.program, recipe, options.stores / f"store-{seed}")
        times.append(f"{seconds:.0f} s")
    print("\n".join(tables(reports)))
    print(f"\nWall time by seed: {', '.join(times)}.")


if __name__ == "__main__":
    main()
