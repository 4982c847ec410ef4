"""The model family in float64 with automatic differentiation: losses, entropies, gradients and AdamW steps to compare with.

Written from the formulas alone, as plainly as they read: attention is a [T, T] matrix, gradients are autograd's. A model is
a config.json (a dict) and a dict of tensors by their names in a file; it computes in the type of those.
"""

import dataclasses
import math

import torch
from torch.nn import functional


class RoundBoth(torch.autograd.Function):
    """A tensor that is held in a narrower type, and whose gradient is."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.to(dtype).double()

    @staticmethod
    def backward(ctx, g):
        return g.to(ctx.dtype).double(), None


class RoundGradient(torch.autograd.Function):
    """A tensor that stays as it is, and whose gradient is held in a narrower type."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.to(ctx.dtype).double(), None


@dataclasses.dataclass
class Rounding:
    """What a trainer in `dtype` keeps between its operations is rounded to it; None: nothing is."""

    dtype: torch.dtype | None = None

    def both(self, x):
        return RoundBoth.apply(x, self.dtype) if self.dtype else x

    def gradient(self, x):
        return RoundGradient.apply(x, self.dtype) if self.dtype else x

    def logits(self, x):
        """Those are held in fp32 in any case."""
        return RoundGradient.apply(RoundBoth.apply(x, torch.float32), self.dtype) if self.dtype else x


class OnePassAttention(torch.autograd.Function):
    """softmax(scores)·v and each row's entropy, with the backward of a kernel that keeps no [T, T] matrix: Σ_j a·dP is taken as
    dO·O, with O as it is held in `dtype`. Where attention is saturated, dP − dO·O is nothing but rounding; autograd's own sum rounds
    less."""

    @staticmethod
    def forward(ctx, scores, v, dtype):
        log_a = scores.log_softmax(-1)
        a = log_a.exp()
        out, entropy = a @ v, -(a * log_a).sum(-1)
        ctx.save_for_backward(a, log_a, v, out.to(dtype).to(out.dtype), entropy)
        return out, entropy

    @staticmethod
    def backward(ctx, dout, dentropy):
        a, log_a, v, out, entropy = ctx.saved_tensors
        row = (dout * out).sum(-1, keepdim=True)
        ds = a * (dout @ v.transpose(-1, -2) - row - dentropy.unsqueeze(-1) * (log_a + entropy.unsqueeze(-1)))
        ds[..., 0, :] = 0.0  # one score
        return ds, a.transpose(-1, -2) @ dout, None


EXACT = Rounding()
FP32 = Rounding(torch.float32)
BF16 = Rounding(torch.bfloat16)


@dataclasses.dataclass
class Losses:
    """Of one step: scalars that autograd knows, and row entropies [L, B, H, T]."""

    loss: torch.Tensor
    penalty: torch.Tensor
    total: torch.Tensor
    entropy: torch.Tensor


def entrain(config):
    return config["entrain"]


def regularizer(config):
    return entrain(config)["entropy_regularizer"]


def normed(w, name, x):
    """LayerNorm where the model has its gain, else x."""
    if name + ".weight" not in w:
        return x
    return functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)


def rotated(x, share):
    """x [B, H, T, D] with its first r = floor(share·D) dims, made even, rotated: dim m with dim m + r/2."""
    dims = math.floor(share * x.shape[-1]) // 2 * 2
    half = dims // 2
    position = torch.arange(x.shape[-2], dtype=torch.float64)
    frequency = torch.tensor([10000.0 ** (-2.0 * m / dims) for m in range(half)], dtype=torch.float64)
    angle = torch.outer(position, frequency)
    first, second = x[..., :half], x[..., half:dims]
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat([*turned, x[..., dims:]], dim=-1)


def temperatures(w, prefix, heads, positions):
    """[H, T], or [H, 1] that stands for all positions; 1 without temperatures."""
    t = w.get(prefix + "temperature", torch.ones(heads, dtype=w[prefix + "c_attn.weight"].dtype))
    return t.view(heads, -1)[:, :positions]


def attention(config, w, prefix, z, rounding):
    """The output before it joins the stream, and each row's entropy [B, H, T]."""
    batch, positions, width = z.shape
    heads = config["n_head"]
    qkv = rounding.both(z @ w[prefix + "c_attn.weight"] + w[prefix + "c_attn.bias"])
    q, k, v = qkv.view(batch, positions, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    if entrain(config)["position"] == "rotary":
        q, k = (rounding.both(rotated(part, entrain(config)["rotary_pct"])) for part in (q, k))
    t = temperatures(w, prefix, heads, positions).unsqueeze(-1)
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / (t * math.sqrt(width // heads))
    future = torch.ones(positions, positions, dtype=torch.bool).triu(1)
    if rounding.dtype or z.dtype == torch.float32:
        mixed, entropy = OnePassAttention.apply(scores.masked_fill(future, -1e30), v, rounding.dtype or z.dtype)
    else:
        log_a = scores.masked_fill(future, -math.inf).log_softmax(-1)
        a = log_a.exp()
        entropy = -(a * log_a.masked_fill(future, 0.0)).sum(-1)
        mixed = a @ v
    mixed = rounding.both(mixed.transpose(1, 2).reshape(batch, positions, width))
    return rounding.gradient(mixed @ w[prefix + "c_proj.weight"] + w[prefix + "c_proj.bias"]), entropy


def ffn(config, w, matrices, prefix, z, rounding):
    kind = entrain(config)["ffn"]
    linear = lambda part, x: x @ matrices[prefix + part] + w[prefix + part + ".bias"]
    if kind == "fused":
        return rounding.gradient(linear("c_fused", z))
    hidden = rounding.both(linear("c_fc", z))
    if kind == "gelu":
        inner = math.sqrt(2.0 / math.pi) * (hidden + 0.044715 * hidden**3)
        hidden = rounding.both(0.5 * hidden * (1.0 + torch.tanh(inner)))
    elif kind == "relu":
        hidden = rounding.both(hidden * (hidden > 0))
    return rounding.gradient(linear("c_proj", hidden))


def block(config, w, matrices, layer, x, rounding):
    prefix = f"transformer.h.{layer}."
    branch, entropy = attention(config, w, prefix + "attn.", rounding.both(normed(w, prefix + "ln_1", x)), rounding)
    y = x + branch
    if layer >= config["n_layer"] - entrain(config)["ffn_pruned"]:
        return y, entropy
    source = x if entrain(config)["block"] == "parallel" else y
    f = ffn(config, w, matrices, prefix + "mlp.", rounding.both(normed(w, prefix + "ln_2", source)), rounding)
    if entrain(config)["ffn_scaling"]:
        return w[prefix + "mlp.beta"] * y + f / w[prefix + "mlp.alpha"], entropy
    return y + f, entropy


def forward(config, w, matrices, inputs, targets, rounding):
    """Mean loss of inputs and targets [B, T], and row entropies [L, B, H, T]."""
    x = w["transformer.wte.weight"][inputs]
    if entrain(config)["position"] == "learned":
        x = x + w["transformer.wpe.weight"][: inputs.shape[1]]
    entropies = []
    for layer in range(config["n_layer"]):
        x, entropy = block(config, w, matrices, layer, x, rounding)
        entropies.append(entropy)
    head = w["transformer.wte.weight"] if config["tie_word_embeddings"] else w["lm_head.weight"]
    logits = rounding.logits(rounding.both(normed(w, "transformer.ln_f", x)) @ head.T)
    chosen = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1))
    return -chosen.mean(), torch.stack(entropies)


# ---- re-parameterised matrices ----


def power_iteration(raw, u):
    """v = W̄u and u = W̄ᵀv, each of unit length."""
    v = functional.normalize(raw @ u, dim=0)
    return functional.normalize(raw.T @ v, dim=0), v


def matrix_names(config):
    """The FFN's matrices, without .weight."""
    parts = ["c_fused"] if entrain(config)["ffn"] == "fused" else ["c_fc", "c_proj"]
    layers = range(config["n_layer"] - entrain(config)["ffn_pruned"])
    return [f"transformer.h.{layer}.mlp.{part}" for layer in layers for part in parts]


def leading_vectors(config, w):
    """u of each spectrally normalised matrix at its fixed point, the first right singular vector."""
    if entrain(config)["ffn_weight_norm"] != "spectral":
        return {}
    return {name: torch.linalg.svd(w[name + ".weight"].detach())[2][0] for name in matrix_names(config)}


def effective_matrices(config, w, u, round_matrix):
    """What the FFN multiplies by, made once a step; u moves by one power iteration."""
    kind = entrain(config)["ffn_weight_norm"]
    matrices = {}
    for name in matrix_names(config):
        if kind == "weight":
            v = w[name + ".weight_v"]
            dim = 0 if entrain(config).get("weight_norm_axis", "output") == "output" else 1
            norm = (v * v).sum(dim, keepdim=True).sqrt()
            matrices[name] = round_matrix(w[name + ".weight_g"].unsqueeze(dim) * v / norm)
        elif kind == "spectral":
            raw = w[name + ".weight"]
            u[name], left = power_iteration(raw.detach(), u[name])
            matrices[name] = round_matrix(raw / (left @ raw @ u[name]))
        else:
            matrices[name] = w[name + ".weight"]
    return matrices


# ---- the regulariser ----


def strength_at(reg, step):
    if step < reg.get("start_step", 0):
        return 0.0
    done = step - reg.get("start_step", 0) + 1
    return reg["strength"] * min(1.0, done / max(1, reg.get("warmup_steps", 0)))


def penalty(config, w, entropy, previous=None):
    """Of row entropies [L, B, H, T]; previous: entropies of heads [L, H] to judge by instead."""
    reg, positions = regularizer(config), entropy.shape[-1]
    if not reg:
        return torch.zeros((), dtype=torch.float64)
    theta = torch.stack([w[f"transformer.h.{l}.attn.entropy_threshold"] for l in range(config["n_layer"])])
    row_max = torch.full((positions,), math.log(positions), dtype=torch.float64)
    if reg["max_entropy"] == "causal":
        row_max = torch.tensor([math.log(i + 1) for i in range(positions)], dtype=torch.float64)
    if reg["granularity"] == "query":
        value, theta, maximum = entropy, theta[:, None, :, None], row_max
    else:
        value, maximum = entropy.mean((1, 3)) if previous is None else previous, row_max.mean()
    delta = value - theta * maximum
    return (delta**2 * (delta.abs() > reg["margin"] * maximum)).mean()


# ---- steps ----


def judges_by_previous(config):
    reg = regularizer(config)
    return bool(reg) and reg["granularity"] == "head" and reg.get("statistics") == "previous_step"


def sequences(config, tokens):
    """Inputs and targets [n, T] of a run of tokens, which share their borders."""
    positions = config["n_positions"]
    count = (len(tokens) - 1) // positions
    inputs, targets = tokens[: count * positions], tokens[1 : count * positions + 1]
    return inputs.view(count, positions), targets.view(count, positions)


def step_losses(config, w, tokens, micro_batch, step, previous, u, rounding=EXACT):
    """A training step's mean loss and penalty over micro-steps. previous: the last step's head entropies, None before it."""
    matrices = effective_matrices(config, w, u, rounding.both)
    parts = [x.split(micro_batch) for x in sequences(config, tokens)]
    loss = total_penalty = torch.zeros((), dtype=torch.float64)
    entropies = []
    for inputs, targets in zip(*parts):
        part, entropy = forward(config, w, matrices, inputs, targets, rounding)
        loss = loss + part / len(parts[0])
        entropies.append(entropy)
        judged = None
        if judges_by_previous(config):
            if previous is None:
                continue  # the first step's gate stays shut
            judged = Pinned.apply(entropy.mean((1, 3)), previous)
        total_penalty = total_penalty + penalty(config, w, entropy, judged) / len(parts[0])
    strength = strength_at(regularizer(config), step) if regularizer(config) else 0.0
    return Losses(loss, total_penalty, loss + strength * total_penalty, torch.cat(entropies, 1))


class Pinned(torch.autograd.Function):
    """The value of `previous`, with the gradient of `present`."""

    @staticmethod
    def forward(ctx, present, previous):
        return previous.clone()

    @staticmethod
    def backward(ctx, g):
        return g, None


def evaluate(config, w, tokens, u):
    """Loss, penalty and total over all sequences as one batch, the regulariser at its full strength."""
    inputs, targets = sequences(config, tokens)
    matrices = effective_matrices(config, w, dict(u), lambda x: x)
    loss, entropy = forward(config, w, matrices, inputs, targets, EXACT)
    total_penalty = penalty(config, w, entropy)
    strength = regularizer(config)["strength"] if regularizer(config) else 0.0
    return Losses(loss, total_penalty, loss + strength * total_penalty, entropy)


def clear_switched_off(config, gradients):
    """A bias that is off has no gradient."""
    switches, width = entrain(config), config["n_embd"]
    for name, g in gradients.items():
        if name.endswith("attn.c_attn.bias"):
            g[: 2 * width] *= switches["qk_bias"]
            g[2 * width :] *= switches["vo_bias"]
        elif name.endswith("attn.c_proj.bias"):
            g *= switches["vo_bias"]
        elif ".mlp." in name and name.endswith(".bias"):
            g *= switches["ffn_bias"]


def step_gradients(config, weights, *args, **kwargs):
    """Losses of step_losses, detached, and the gradient of every tensor."""
    w = {name: value.clone().requires_grad_() for name, value in weights.items()}
    losses = step_losses(config, w, *args, **kwargs)
    losses.total.backward()
    gradients = {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in w.items()}
    clear_switched_off(config, gradients)
    return Losses(*(getattr(losses, f.name).detach() for f in dataclasses.fields(Losses))), gradients


def is_matrix(name, value):
    return value.dim() == 2 and not name.endswith("temperature")


class AdamW:
    def __init__(self, config, weights, settings):
        self.config, self.settings, self.updates = config, settings, 0
        self.weights = {name: value.clone() for name, value in weights.items()}
        self.first = {name: torch.zeros_like(value) for name, value in weights.items()}
        self.second = {name: torch.zeros_like(value) for name, value in weights.items()}

    def update(self, gradients):
        """One update; returns the gradients' global norm."""
        s = self.settings
        self.updates += 1
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients.values()))
        scale = min(1.0, s["clip"] / (norm + 1e-6)) if s["clip"] > 0 else 1.0
        for name, w in self.weights.items():
            g = gradients[name] * scale
            self.first[name] = s["beta1"] * self.first[name] + (1 - s["beta1"]) * g
            self.second[name] = s["beta2"] * self.second[name] + (1 - s["beta2"]) * g * g
            first = self.first[name] / (1 - s["beta1"] ** self.updates)
            second = self.second[name] / (1 - s["beta2"] ** self.updates)
            decay = s["weight_decay"] if is_matrix(name, w) else 0.0
            w = w * (1 - s["lr"] * decay) - s["lr"] * first / (second.sqrt() + s["eps"])
            self.weights[name] = w.clamp(min=entrain(self.config)["temperature_min"]) if name.endswith("temperature") else w
        return norm


def train(config, weights, tokens, settings, steps=10, gradients_at=step_gradients):
    """The losses and gradient norm before each step on one batch."""
    optimizer, previous, u, records = AdamW(config, weights, settings), None, leading_vectors(config, weights), []
    for step in range(steps):
        losses, gradients = gradients_at(
            config, optimizer.weights, tokens, settings["micro_batch"], step, previous, u)
        norm = optimizer.update(gradients)
        previous = losses.entropy.mean((1, 3))
        records.append({"loss": losses.loss.item(), "penalty": losses.penalty.item(),
                        "total": losses.total.item(), "grad_norm": norm})
    return records
