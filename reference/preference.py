"""Preference losses and divergences over pairs of answers, as the papers state them."""

import torch
import torch.nn.functional as F

HYPER = {
    "beta": 0.1,
    "label_smoothing": 0.1,
    "rpo_alpha": 0.05,
    "ld_alpha": 0.5,
    "simpo_beta": 2.0,
    "simpo_gamma_times": 1.0,
    "orpo_lambda": 0.1,
}


def answer_logits(model, pairs, side):
    """Of every pair's answer on one side: logits at its tokens' places [n, v] and the tokens [n]."""
    out = []
    for pair in pairs:
        ids = torch.tensor([pair["prompt"] + pair[side]])
        start = len(pair["prompt"])
        out.append((model(ids)[0][0, start - 1 : -1], ids[0, start:]))
    return out


def token_logps(answers):
    return [logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0] for logits, ids in answers]


class Answers:
    """Token log-probabilities of both sides of every pair under one model."""

    def __init__(self, model, pairs):
        self.pairs = pairs
        self.logits = {side: answer_logits(model, pairs, side) for side in ("chosen", "rejected")}
        self.tokens = {side: token_logps(answers) for side, answers in self.logits.items()}

    def sums(self, side, weigh=None):
        """Sum over each answer's tokens, weighted by `weigh(pair, side)` where given."""
        weights = [torch.ones(len(p[side])) if weigh is None else weigh(p, side) for p in self.pairs]
        return torch.stack([(t * w).sum() for t, w in zip(self.tokens[side], weights)])

    def means(self, side):
        return torch.stack([t.mean() for t in self.tokens[side]])


def gain(policy, reference, of):
    """(chosen - its reference) - (rejected - its reference)."""
    return (of(policy, "chosen") - of(reference, "chosen")) - (of(policy, "rejected") - of(reference, "rejected"))


def by_format(pair, side):
    return torch.tensor(pair[f"{side}_format_mask"], dtype=torch.float32)


def by_common_length(pair, side):
    """LD-DPO: tokens beyond the shorter answer's length count for `ld_alpha`."""
    weights = torch.ones(len(pair[side]))
    weights[min(len(pair["chosen"]), len(pair["rejected"])) :] = HYPER["ld_alpha"]
    return weights


def pair_losses(policy, reference):
    """Every preference loss by name: one value a pair."""
    h = HYPER
    beta, smooth = h["beta"], h["label_smoothing"]
    whole = gain(policy, reference, lambda m, side: m.sums(side))
    mean = gain(policy, reference, lambda m, side: m.means(side))
    common = gain(policy, reference, lambda m, side: m.sums(side, by_common_length))
    formed = gain(policy, reference, lambda m, side: m.sums(side, by_format))
    lose = lambda x: -F.logsigmoid(x)
    sigmoid = lose(beta * whole)
    nll = -torch.cat(policy.tokens["chosen"]).mean()
    chosen, rejected = policy.means("chosen"), policy.means("rejected")
    odds = lambda mean_logp: mean_logp - torch.log1p(-mean_logp.exp())
    return {
        "sigmoid": sigmoid,
        "sigmoid_label_smoothing": (1 - smooth) * sigmoid + smooth * lose(-beta * whole),
        "robust": ((1 - smooth) * sigmoid - smooth * lose(-beta * whole)) / (1 - 2 * smooth),
        "hinge": torch.relu(1 - beta * whole),
        "ipo_sum": (whole - 1 / (2 * beta)).square(),
        "ipo_token_mean": (mean - 1 / (2 * beta)).square(),
        "length_normalised": lose(beta * mean),
        "sigmoid_plus_nll_tokenmean": sigmoid + h["rpo_alpha"] * nll,
        "sigmoid_plus_nll_seqmean": sigmoid - h["rpo_alpha"] * chosen,
        "ld_dpo": lose(beta * common),
        "format_masked": lose(beta * formed),
        "simpo": lose(h["simpo_beta"] * (chosen - rejected) - h["simpo_gamma_times"]),
        "orpo": nll + h["orpo_lambda"] * lose(odds(chosen) - odds(rejected)),
    }


def divergences(policy, reference):
    """Divergences from the reference by name: one value, the mean over all answers' tokens."""
    flat = lambda m: torch.cat([logits for side in m.logits.values() for logits, _ in side]).log_softmax(-1)
    p, q = flat(policy), flat(reference).detach()
    kl = lambda a, b: (a.exp() * (a - b)).sum(-1).mean()
    middle = torch.log((p.exp() + q.exp()) / 2)
    taken = lambda m: torch.cat([t for side in m.tokens.values() for t in side])
    ratio = taken(reference).detach() - taken(policy)
    return {
        "kl_forward_teacher_student": kl(q, p)[None],
        "kl_reverse_student_teacher": kl(p, q)[None],
        "jsd_half": (kl(p, middle) / 2 + kl(q, middle) / 2)[None],
        "kl_k3_sampled": (ratio.exp() - 1 - ratio).mean()[None],
    }


def l2_sp(policy, start):
    """Half the squared distance between two models' parameters."""
    apart = zip(policy.parameters(), start.parameters())
    return 0.5 * sum(float((a.detach().double() - b.detach().double()).square().sum()) for a, b in apart)
