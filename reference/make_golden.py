#!/usr/bin/env python3
"""Makes and checks the goldens of crates/ringsmith-model/tests/golden: what a plain PyTorch model computes on a
tiny checkpoint in Hugging Face layout.

  make_golden.py --check DIR                  compares with the goldens in DIR and in the folders right below it
  make_golden.py --make DIR                   computes DIR's golden from its config.json and model.safetensors
  make_golden.py --make DIR --config FILE     draws a fresh checkpoint of that shape first
"""

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bailing import Bailing, next_token_loss, read_config
from preference import HYPER, Answers, divergences, l2_sp, pair_losses

TOLERANCE = 2e-5
BALANCE, Z = 0.015, 1e-4
ADAMW = {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0}
ADAMW["decay_on"] = "all parameters (norms, biases, embeddings too)"


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def norm(tensors):
    return float(sum(t.double().square().sum() for t in tensors).sqrt())


def norms(tensors):
    return {name: norm([t]) for name, t in tensors.items()}


def plain(config, inputs):
    """The rows as they are: hidden states, routing, logits, loss, every gradient, then with the router's losses."""
    model, ids, labels = inputs["model"](), inputs["input_ids"], inputs["labels"]
    logits, trace = model(ids)
    loss = next_token_loss(logits, labels)
    found = {"loss": float(loss)}
    tensors = {"input_ids": ids, "labels": labels, "logits": logits}
    tensors |= {f"hidden.{n}": h for n, h in enumerate(trace.hidden)}
    rows = lambda x: x.unflatten(0, ids.shape)
    tensors |= {f"router_logits.{n}": rows(x) for n, x in enumerate(trace.router_logits)}
    # By the experts' numbers: the order by weight is a matter of the last bit.
    tensors |= {f"topk_idx.{n}": rows(x.sort(-1).values) for n, x in enumerate(trace.chosen)}
    grads = gradients(model, loss)
    tensors |= {f"grad.{name}": g for name, g in grads.items()}
    found |= {"grad_norm": norm(grads.values()), "grad_norms": norms(grads)}

    logits, trace = model(ids)
    balance, z = trace.balance(), trace.z()
    total = next_token_loss(logits, labels) + BALANCE * sum(balance) / len(balance) + Z * sum(z) / len(z)
    grads = gradients(model, total)
    gates = {name: g for name, g in grads.items() if name.endswith("mlp.gate.weight")}
    tensors |= {f"grad_with_router_losses.{name}": g for name, g in gates.items()}
    found["router"] = {
        "aux_per_layer": [float(x) for x in balance],
        "z_per_layer": [float(x) for x in z],
        "load_per_layer": [[float(n) for n in load] for load in trace.load()],
        "total_loss": float(total),
        "grad_norm": norm(grads.values()),
        "gate_grad_norms": norms(gates),
    }
    return found, tensors


def packed(config, inputs):
    """Two documents in one row that do not see each other, positions from 0 in each."""
    model, ids, labels = inputs["model"](), inputs["packed.input_ids"], inputs["packed.labels"]
    ends, positions = inputs["packed.cu_seqlens"].tolist(), inputs["packed.position_ids"]
    document = torch.bucketize(torch.arange(ids.shape[1]), torch.tensor(ends[1:-1]), right=True)[None]
    logits, _ = model(ids, positions, document)
    loss = next_token_loss(logits, labels)
    grads = gradients(model, loss)
    alone = torch.cat([model(ids[:, a:b])[0] for a, b in zip(ends, ends[1:])], dim=1)
    found = {
        "loss": float(loss),
        "grad_norm": norm(grads.values()),
        "max_abs_diff_vs_separate": float((logits - alone).abs().max()),
        "max_abs_diff_if_not_masked": float((model(ids)[0] - alone).abs().max()),
    }
    tensors = {name: inputs[name] for name in inputs if name.startswith("packed.")}
    return {"packed": found}, tensors | {"packed.logits": logits}


def padded(config, inputs):
    """Rows of unequal length, filled up on the right."""
    model, ids, labels = inputs["model"](), inputs["input_ids"], inputs["labels"]
    lens = torch.tensor(inputs["valid_lens"])
    valid = torch.arange(ids.shape[1]) < lens[:, None]
    ids, labels = ids.where(valid, config["pad_token_id"] or 0), labels.where(valid, -100)
    loss = next_token_loss(model(ids, valid_bt=valid)[0], labels)
    grads = gradients(model, loss)
    return {"padded": {"valid_lens": lens.tolist(), "loss": float(loss), "grad_norm": norm(grads.values())}}, {}


def accumulated(config, inputs):
    """Why the mean of the rows' means is not the batch's loss."""
    model, ids, labels = inputs["model"](), inputs["input_ids"], inputs["labels"]
    rows = [(model(i[None])[0], l[None]) for i, l in zip(ids, labels)]
    means = [float(next_token_loss(*row)) for row in rows]
    tokens = [int((l[:, 1:] != -100).sum()) for _, l in rows]
    found = {
        "per_row_mean_loss": means,
        "n_tokens": tokens,
        "mean_of_means_(wrong)": sum(means) / len(means),
        "token_weighted_(right)": sum(m * n for m, n in zip(means, tokens)) / sum(tokens),
        "batch_loss": float(next_token_loss(model(ids)[0], labels)),
    }
    return {"grad_accum": found}, {}


def trained(config, inputs):
    """Eight steps of AdamW on the same rows."""
    model, ids, labels = inputs["model"](), inputs["input_ids"], inputs["labels"]
    kinds = {key: ADAMW[key] for key in ("lr", "eps", "weight_decay")}
    adamw = torch.optim.AdamW(model.parameters(), betas=tuple(ADAMW["betas"]), **kinds)
    trajectory = []
    for step in range(8):
        adamw.zero_grad()
        loss = next_token_loss(model(ids)[0], labels)
        loss.backward()
        length = torch.nn.utils.clip_grad_norm_(model.parameters(), ADAMW["clip"])
        adamw.step()
        trajectory.append({"step": step + 1, "loss": float(loss), "grad_norm_before_clip": float(length)})
    found = {
        "hp": ADAMW,
        "trajectory": trajectory,
        "final_param_l2": norms({name: p.detach() for name, p in model.named_parameters()}),
        "final_eval_loss_train_mode": float(next_token_loss(model(ids)[0], labels)),
    }
    return {"adamw": found}, {}


def greedy(config, inputs):
    model, ids = inputs["model"](), list(inputs["prompt"])
    for _ in range(16):
        ids.append(int(model(torch.tensor([ids]))[0][0, -1].argmax()))
    cut = len(inputs["prompt"])
    return {"greedy": {"prompt": ids[:cut], "continuation": ids[cut:]}}, {}


def measure(folder, inputs):
    """ref.json and ref.safetensors of a checkpoint folder."""
    config = read_config(folder)
    inputs = inputs | {"model": lambda: Bailing.load(folder)}
    count = sum(p.numel() for p in inputs["model"]().parameters())
    found, tensors = {"variant": folder.name, "torch": torch.__version__, "n_params": count}, {}
    for part in (plain, packed, padded, accumulated, trained, greedy):
        more, more_tensors = part(config, inputs)
        found |= more
        tensors |= more_tensors
    return found, {name: t.detach().contiguous() for name, t in tensors.items()}


def measure_preference(folder, pairs):
    """dpo_ref.json: model.safetensors is the policy, ref_policy.safetensors the reference."""
    policy, frozen = Bailing.load(folder), Bailing.load(folder, "ref_policy.safetensors")
    ours = Answers(policy, pairs)
    with torch.no_grad():
        theirs = Answers(frozen, pairs)
    losses = {}
    for name, values in (pair_losses(ours, theirs) | divergences(ours, theirs)).items():
        policy.zero_grad()
        values.mean().backward(retain_graph=True)
        grads = {n: p.grad for n, p in policy.named_parameters()}
        losses[name] = {"mean": float(values.mean()), "per_pair": values.tolist(), "grad_norm": norm(grads.values())}
        if name in ("sigmoid", "format_masked", "kl_forward_teacher_student"):
            losses[name]["grad_norms"] = norms(grads)
    lists = lambda answers: [t.tolist() for side in answers.tokens.values() for t in side]
    sums = {f"{who}_{side}": m.sums(side) for who, m in (("policy", ours), ("ref", theirs)) for side in m.tokens}
    rewards = {side: HYPER["beta"] * (sums[f"policy_{side}"] - sums[f"ref_{side}"]) for side in ours.tokens}
    itself = float(pair_losses(ours, ours)["sigmoid"].mean()) - torch.tensor(2.0, dtype=torch.float64).log().item()
    return {
        "pairs": pairs,
        "hp": HYPER,
        "losses": losses,
        "l2_sp_half_sum_sq": l2_sp(policy, frozen),
        "per_token_logps": {"policy": lists(ours), "reference": lists(theirs),
                            "rows": "all chosen then all rejected, completion tokens only"},
        "sequence_logps": {key: value.tolist() for key, value in sums.items()}
        | {"n_tokens": [float(len(pair[side])) for side in ours.tokens for pair in pairs]},
        "rewards": {side: value.tolist() for side, value in rewards.items()}
        | {"accuracy": float((rewards["chosen"] > rewards["rejected"]).float().mean()),
           "margin": float((rewards["chosen"] - rewards["rejected"]).mean())},
        "sigmoid_with_policy_as_reference_minus_ln2": itself,
    }


def draw_inputs(config, seed):
    """Two rows of 24 tokens whose first tokens are not supervised, a packed row of 10 + 14, a prompt of 8."""
    draw = torch.Generator().manual_seed(seed)
    pad = config["pad_token_id"]
    first = 1 if pad == 0 else 0
    ids = torch.randint(first, config["vocab_size"], (2, 24), generator=draw)
    if pad is not None and pad != 0:
        ids[ids == pad] = 0
    labels = ids.clone()
    labels[0, :7], labels[1, :11] = -100, -100
    row = torch.cat([ids[0, :10], ids[1, :14]])[None]
    row_labels = torch.cat([labels[0, :10], labels[1, :14]])[None].clone()
    row_labels[0, 10] = -100
    return {
        "input_ids": ids,
        "labels": labels,
        "packed.input_ids": row,
        "packed.labels": row_labels,
        "packed.cu_seqlens": torch.tensor([0, 10, 24]),
        "packed.position_ids": torch.cat([torch.arange(10), torch.arange(14)])[None],
        "valid_lens": [15, 24],
        "prompt": ids[0, :8].tolist(),
    }


def known_inputs(folder):
    """What a golden was made from, read back from it."""
    found, tensors = json.loads((folder / "ref.json").read_text()), load_file(folder / "ref.safetensors")
    names = ["input_ids", "labels"] + [f"packed.{n}" for n in ("input_ids", "labels", "cu_seqlens", "position_ids")]
    chosen = {"valid_lens": found["padded"]["valid_lens"], "prompt": found["greedy"]["prompt"]}
    return {name: tensors[name] for name in names} | chosen


def draw_pairs(config, seed):
    """Four pairs that share the start of their answers; format tokens are those from the first difference on."""
    draw = torch.Generator().manual_seed(seed + 1)
    some = lambda low, high: int(torch.randint(low, high, (), generator=draw))
    ids = lambda n: torch.randint(1, config["vocab_size"], (n,), generator=draw).tolist()
    pairs = []
    for _ in range(4):
        start = ids(some(1, 4))
        pair = {"prompt": ids(some(3, 9))}
        for side in ("chosen", "rejected"):
            tail = ids(some(3, 15))
            pair |= {side: start + tail, f"{side}_format_mask": [0] * len(start) + [1] * len(tail)}
        pairs.append(pair)
    return pairs


def draw_checkpoint(folder, config_file, seed):
    """A random checkpoint whose norms and biases are not trivial, and a reference policy near it."""
    folder.mkdir(parents=True, exist_ok=True)
    if config_file.resolve() != (folder / "config.json").resolve():
        shutil.copyfile(config_file, folder / "config.json")
    draw = torch.Generator().manual_seed(seed)
    config = read_config(folder)
    model = Bailing(config)
    noise = lambda p, std: torch.randn(p.shape, generator=draw) * std
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(noise(p, config.get("initializer_range", 0.02)) + (1.0 if "norm" in name else 0.0))
        model.save(folder / "model.safetensors")
        for p in model.parameters():
            p.add_(noise(p, 0.02))
        model.save(folder / "ref_policy.safetensors")


def make(folder, config_file, seed):
    if config_file:
        draw_checkpoint(folder, config_file, seed)
    config = read_config(folder)
    inputs = known_inputs(folder) if (folder / "ref.json").exists() and not config_file else draw_inputs(config, seed)
    found, tensors = measure(folder, inputs)
    (folder / "ref.json").write_text(json.dumps(found, indent=1) + "\n")
    save_file(tensors, folder / "ref.safetensors")
    if (folder / "ref_policy.safetensors").exists():
        file = folder / "dpo_ref.json"
        known = file.exists() and not config_file
        pairs = json.loads(file.read_text())["pairs"] if known else draw_pairs(config, seed)
        file.write_text(json.dumps(measure_preference(folder, pairs), indent=1) + "\n")


def apart(ours, theirs):
    """Worst difference, absolute below 1 and relative above; whole numbers and words must be equal."""
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        ours, theirs = (torch.tensor(x, dtype=torch.float64) for x in (ours, theirs))
    if not isinstance(ours, torch.Tensor):
        return 0.0 if ours == theirs else math.inf
    if ours.shape != theirs.shape or not ours.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else math.inf
    worst = float(((ours - theirs).abs() / theirs.abs().clamp(min=1.0)).max())
    return math.inf if math.isnan(worst) else worst


def leaves(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{n}")
    else:
        yield path[1:], value


# Which machine made a golden, not what it says.
NOTES = {"variant", "torch", "per_token_logps/rows"}


def compare(title, ours, theirs, kind):
    """Prints the worst difference by kind; keys that only one side has are named. False beyond the tolerance."""
    worst = {}
    for name in ours.keys() & theirs.keys() - NOTES:
        group = kind(name)
        worst.setdefault(group, []).append((apart(ours[name], theirs[name]), name))
    good = True
    for group, found in sorted(worst.items()):
        value, name = max(found)
        within = value <= TOLERANCE
        good &= within
        place = "" if within else f"  BEYOND {TOLERANCE:g} at {name}"
        print(f"{title:<10} {group:<34} {len(found):>5} {value:10.2e}{place}")
    missing = sorted({kind(n) for n in ours.keys() - theirs.keys()})
    foreign = sorted({kind(n) for n in theirs.keys() - ours.keys()})
    for label, names in (("not in the golden", missing), ("not made here", foreign)):
        if names:
            print(f"{title:<10} {label}: {', '.join(names)}")
    return good and not missing


def tensor_kind(name):
    return name if name.startswith("packed.") else name.split(".")[0]


def number_kind(path):
    first, *rest = path.split("/")
    detailed = first in ("losses", "router", "packed", "padded", "grad_accum", "adamw", "greedy", "bf16", "eval")
    return "/".join([first, *rest[:1]]) if detailed else first


def check(folder):
    found, tensors = measure(folder, known_inputs(folder))
    good = compare(f"{folder.name}/tensors", tensors, load_file(folder / "ref.safetensors"), tensor_kind)
    golden = json.loads((folder / "ref.json").read_text())
    good &= compare(f"{folder.name}/ref", dict(leaves(found)), dict(leaves(golden)), number_kind)
    preferences = folder / "dpo_ref.json"
    if preferences.exists():
        golden = json.loads(preferences.read_text())
        found = measure_preference(folder, golden["pairs"])
        good &= compare(f"{folder.name}/dpo", dict(leaves(found)), dict(leaves(golden)), number_kind)
    return good


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--check", type=Path, metavar="DIR", help="compare with the goldens in DIR")
    args.add_argument("--make", type=Path, metavar="DIR", help="write DIR's golden")
    args.add_argument("--config", type=Path, metavar="FILE", help="config.json of a fresh checkpoint")
    args.add_argument("--seed", type=int, default=1, help="of the fresh checkpoint and inputs")
    args = args.parse_args()
    torch.set_num_threads(1)
    if args.make:
        make(args.make, args.config, args.seed)
    if args.check:
        folders = sorted(f.parent for f in [*args.check.glob("ref.json"), *args.check.glob("*/ref.json")])
        if not folders:
            sys.exit(f"{args.check}: no ref.json in it or right below it")
        results = [check(folder) for folder in folders]
        print("all within" if all(results) else "NOT all within", f"{TOLERANCE:g}")
        sys.exit(0 if all(results) else 1)
    if not args.make:
        sys.exit("nothing to do: give --check DIR or --make DIR")


if __name__ == "__main__":
    main()
