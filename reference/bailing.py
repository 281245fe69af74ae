"""BailingMoE in plain PyTorch, with the tensor names of the published checkpoints.

The slow, readable twin of crates/ringsmith-model: attention is written out, every expert is a loop iteration, and
autograd makes every gradient. Shapes: b rows, t tokens, d hidden, e experts, k chosen a token, v vocabulary.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


def read_config(folder):
    """config.json of a checkpoint folder, with the defaults that published configs leave out."""
    path = Path(folder)
    config = json.loads((path if path.is_file() else path / "config.json").read_text())
    config.setdefault("pad_token_id", None)
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config


class Norm(nn.Module):
    """Root mean square norm; the square mean and its root in f32 at least."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config["hidden_size"]))
        self.eps = config["rms_norm_eps"]

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * (x * scale)


class Mlp(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """Routed experts and the shared one, which every token passes unweighted."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        width, inner = config["hidden_size"], config["moe_intermediate_size"]
        self.gate = nn.Linear(width, config["num_experts"], bias=False)
        self.experts = nn.ModuleList(Mlp(width, inner) for _ in range(config["num_experts"]))
        if config["num_shared_experts"]:
            self.shared_experts = Mlp(width, inner * config["num_shared_experts"])

    def forward(self, x_btd, route):
        x = x_btd.flatten(0, 1)
        logits = self.gate(x)
        weights, chosen = logits.softmax(dim=-1).topk(self.config["num_experts_per_tok"], dim=-1)
        if self.config["norm_topk_prob"]:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        route.append((logits, chosen))
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            # An idle expert sees no rows and so gets a gradient of zero, not none: the optimizer still decays it.
            token, place = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, token, weights[token, place, None] * expert(x[token]))
        if self.config["num_shared_experts"]:
            out = out + self.shared_experts(x)
        return out.view_as(x_btd)


class Attention(nn.Module):
    """Grouped-query attention with rotate-half RoPE. One product gives all queries, then keys, then values."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = config["head_dim"]
        joint = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.query_key_value = nn.Linear(config["hidden_size"], joint, bias=config["use_qkv_bias"])
        self.dense = nn.Linear(self.heads * self.head_dim, config["hidden_size"], bias=config["use_bias"])

    def forward(self, x_btd, angles, visible):
        joint = self.query_key_value(x_btd).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        query, key, value = joint.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        query, key = rotate(query, angles), rotate(key, angles)
        group = self.heads // self.kv_heads
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        scores = query @ key.transpose(-1, -2) * self.head_dim**-0.5
        weights = scores.masked_fill(~visible[:, None], float("-inf")).softmax(dim=-1)
        return self.dense((weights @ value).transpose(1, 2).flatten(2))


def rotate(x, angles):
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Layer(nn.Module):
    def __init__(self, config, number):
        super().__init__()
        self.attention = Attention(config)
        dense = number < config["first_k_dense_replace"]
        self.mlp = Mlp(config["hidden_size"], config["intermediate_size"]) if dense else Experts(config)
        self.input_layernorm, self.post_attention_layernorm = Norm(config), Norm(config)

    def forward(self, x, angles, visible, route):
        x = x + self.attention(self.input_layernorm(x), angles, visible)
        normed = self.post_attention_layernorm(x)
        return x + (self.mlp(normed, route) if isinstance(self.mlp, Experts) else self.mlp(normed))


class Bailing(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = nn.Module()
        # The padding token's row never receives a gradient.
        self.model.word_embeddings = nn.Embedding(
            config["vocab_size"], config["hidden_size"], padding_idx=config["pad_token_id"]
        )
        self.model.layers = nn.ModuleList(Layer(config, n) for n in range(config["num_hidden_layers"]))
        self.model.norm = Norm(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    @staticmethod
    def load(folder, weights="model.safetensors"):
        model = Bailing(read_config(folder))
        model.load_state_dict(load_file(Path(folder) / weights))
        return model

    def save(self, file):
        save_file({name: p.detach().clone() for name, p in self.named_parameters()}, file, metadata={"format": "pt"})

    def head(self):
        """NormHead: each hidden column over its length along the vocabulary; no gradient through the length."""
        weight = self.lm_head.weight
        if not self.config["norm_head"]:
            return weight
        return weight / (weight.detach().norm(dim=0, keepdim=True) + 1e-7)

    def forward(self, ids_bt, positions_bt=None, document_bt=None, valid_bt=None):
        """Logits [b, t, v], and what happened on the way.

        Tokens see earlier tokens of their own document that are valid, and themselves."""
        b, t = ids_bt.shape
        if positions_bt is None:
            positions_bt = torch.arange(t).expand(b, t)
        visible = torch.ones(t, t, dtype=torch.bool).tril().expand(b, t, t)
        if document_bt is not None:
            visible = visible & (document_bt[:, :, None] == document_bt[:, None, :])
        if valid_bt is not None:
            visible = visible & (valid_bt[:, None, :] | torch.eye(t, dtype=torch.bool))
        half = torch.arange(0, self.config["head_dim"], 2, dtype=torch.float32) / self.config["head_dim"]
        angles = (positions_bt[..., None].float() * (1.0 / self.config["rope_theta"] ** half))[:, None]
        x, route, hidden = self.model.word_embeddings(ids_bt), [], []
        for layer in self.model.layers:
            hidden.append(x)
            x = layer(x, angles, visible, route)
        hidden.append(self.model.norm(x))
        return F.linear(hidden[-1], self.head()), Trace(hidden, route, self.config)


class Trace:
    """What a forward pass left behind: hidden states (the last one normed) and each router's logits and choice."""

    def __init__(self, hidden, route, config):
        self.hidden, self.experts = hidden, config["num_experts"]
        self.router_logits = [logits for logits, _ in route]
        self.chosen = [chosen for _, chosen in route]

    def load(self):
        """Tokens of every expert, by layer."""
        return [torch.bincount(c.flatten(), minlength=self.experts) for c in self.chosen]

    def balance(self):
        """experts * sum of (share of slots * mean probability), by layer."""
        shares = [load / c.numel() for load, c in zip(self.load(), self.chosen)]
        return [self.experts * (s * l.softmax(-1).mean(0)).sum() for s, l in zip(shares, self.router_logits)]

    def z(self):
        """Mean of logsumexp squared, by layer."""
        return [logits.logsumexp(-1).square().mean() for logits in self.router_logits]


def next_token_loss(logits_btv, labels_bt, reduction="mean"):
    """Cross-entropy of token i + 1 given the tokens up to i, over labels that are not -100."""
    return F.cross_entropy(logits_btv[:, :-1].flatten(0, 1), labels_bt[:, 1:].flatten(), reduction=reduction)
