"""How well the golden cases can be reproduced at all: an independent model in float64, and its sensitivity.

Their gradients and losses are float64. Some numbers in them are so ill-conditioned that the *inputs'* rounding alone moves
them by more than the tolerance of 2e-5 (fp32) or 3e-2 (bf16): no trainer that keeps weights in that precision can do better.
This script measures that floor, in float64 throughout:

  f32    largest relative L2 change of a gradient when every weight moves by one fp32 rounding error (12 random draws)
  f32_cuda  the same when every operation is of fp32 as well, and exponentials are off by up to two units of the last place, which is
            what a GPU's ex2 keeps (PTX manual)
  bf16   the same for a bf16 rounding error of every matrix, with rounded activations (12 draws, the rounding itself first)
  adamw  largest relative change of the ten losses when the first weights move by one fp32 rounding error
  adamw_bf16  the same when every step's gradient is taken as for bf16, from float64 master weights

and writes tests/data/golden_floor.json, which the golden tests read: their tolerance of a number is the larger of the fixed
one and twice its floor.

    python3 tests/interop/golden_floor.py
"""

import json
import math
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[1] / "data"
BATCH = 4
DRAWS = 12
FP32_ROUNDING = 6e-8
CUDA_EXP_ERROR = 2 * 2.0**-23
BF16_ROUNDING = 2.0**-9
REPORTED = {"f32": 1e-5, "f32_cuda": 1e-5, "bf16": 1.5e-2, "adamw": 5e-5, "adamw_bf16": 5e-3}  # floors below half the tolerance change nothing


def load(name):
    folder = ROOT / "golden" / name
    config = json.loads((folder / "config.json").read_text())
    weights = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    tokens = torch.from_numpy(np.fromfile(folder / "tokens.bin", dtype="<u2")[512:].astype("int64"))
    expected = json.loads((folder / "expected.json").read_text())
    return config, weights, tokens, expected


def layernorm(w, name, x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)


def rotated(x, share):
    """GPT-NeoX's half split over the first dims of x [B, H, T, D]."""
    dims = int(share * x.shape[-1]) // 2 * 2
    angles = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * 10000 ** (
        -torch.arange(0, dims, 2, dtype=torch.float64) / dims
    )
    a, b, rest = x[..., : dims // 2], x[..., dims // 2 : dims], x[..., dims:]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def attention(config, w, prefix, x, rounded, exp):
    t, heads, d = config["n_positions"], config["n_head"], config["n_embd"]
    qkv = rounded(rounded(x) @ w[prefix + "c_attn.weight"] + w[prefix + "c_attn.bias"])
    q, k, v = (part.view(BATCH, t, heads, d // heads).transpose(1, 2) for part in qkv.split(d, -1))
    if config["entrain"]["position"] == "rotary":
        q, k = (rounded(rotated(part, config["entrain"]["rotary_pct"])) for part in (q, k))
    scores = q @ k.transpose(-1, -2) / math.sqrt(d // heads)
    if prefix + "temperature" in w:
        scores = scores / w[prefix + "temperature"].view(1, heads, t, 1)
    mask = torch.tril(torch.ones(t, t, dtype=torch.bool))
    log_a = torch.log_softmax(scores.masked_fill(~mask, float("-inf")), -1)
    a = exp(log_a)
    entropy = -(a * log_a.masked_fill(~mask, 0.0)).sum(-1)
    out = rounded((a @ v).transpose(1, 2).reshape(BATCH, t, d))
    return out @ w[prefix + "c_proj.weight"] + w[prefix + "c_proj.bias"], entropy


def effective(w, name, axis, round_matrix):
    """A matrix of the FFN, of its factors where it is weight-normalised."""
    if name + ".weight" in w:
        return w[name + ".weight"]
    v = w[name + ".weight_v"]
    dim = 0 if axis == "output" else 1
    gain = w[name + ".weight_g"].unsqueeze(dim)
    return round_matrix(gain * v / v.norm(dim=dim, keepdim=True))


def ffn(config, w, prefix, z, rounded, round_matrix):
    matrix = lambda part: effective(w, prefix + part, config["entrain"].get("weight_norm_axis"), round_matrix)
    kind = config["entrain"]["ffn"]
    if kind == "fused":
        return rounded(rounded(z) @ matrix("c_fused") + w[prefix + "c_fused.bias"])
    hidden = rounded(rounded(z) @ matrix("c_fc") + w[prefix + "c_fc.bias"])
    activations = {
        "gelu": lambda h: torch.nn.functional.gelu(h, approximate="tanh"),
        "relu": torch.relu,
        "identity": lambda h: h,
    }
    return rounded(activations[kind](hidden)) @ matrix("c_proj") + w[prefix + "c_proj.bias"]


def penalty(config, threshold, entropy):
    reg, t = config["entrain"]["entropy_regularizer"], config["n_positions"]
    if reg["granularity"] == "query":
        maximum = torch.log(torch.arange(1, t + 1, dtype=torch.float64))
        delta = entropy - threshold.view(1, -1, 1) * maximum
    else:
        maximum = torch.tensor(math.log(t), dtype=torch.float64)
        delta = entropy.mean((0, 2)) - threshold * maximum
    return (delta**2 * (delta.abs() > reg["margin"] * maximum)).mean()


def block(config, w, prefix, x, rounded, round_matrix, exp):
    norm = lambda name, z: layernorm(w, prefix + name, z) if prefix + name + ".weight" in w else z
    branch, entropy = attention(config, w, prefix + "attn.", norm("ln_1", x), rounded, exp)
    y = x + branch
    if not any(name.startswith(prefix + "mlp.") for name in w):
        return y, entropy
    z = norm("ln_2", x if config["entrain"]["block"] == "parallel" else y)
    f = ffn(config, w, prefix + "mlp.", z, rounded, round_matrix)
    return w.get(prefix + "mlp.beta", 1.0) * y + f / w.get(prefix + "mlp.alpha", 1.0), entropy


def forward(config, w, tokens, rounded, round_matrix, exp):
    t, layers = config["n_positions"], config["n_layer"]
    inputs = torch.stack([tokens[r * t : r * t + t] for r in range(BATCH)])
    targets = torch.stack([tokens[r * t + 1 : r * t + t + 1] for r in range(BATCH)])
    x = w["transformer.wte.weight"][inputs]
    if "transformer.wpe.weight" in w:
        x = x + w["transformer.wpe.weight"]
    regularizer, total_penalty = config["entrain"]["entropy_regularizer"], 0.0
    for layer in range(layers):
        prefix = f"transformer.h.{layer}."
        x, entropy = block(config, w, prefix, x, rounded, round_matrix, exp)
        if regularizer:
            total_penalty = total_penalty + penalty(config, w[prefix + "attn.entropy_threshold"], entropy) / layers
    head = w.get("lm_head.weight", w["transformer.wte.weight"])
    logits = rounded(layernorm(w, "transformer.ln_f", x)) @ head.t()
    loss = torch.nn.functional.cross_entropy(logits.view(-1, config["vocab_size"]), targets.view(-1))
    return loss, loss + (regularizer["strength"] * total_penalty if regularizer else 0.0)


class Bf16Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.bfloat16().double()

    @staticmethod
    def backward(ctx, g):
        return g.bfloat16().double()


def is_matrix(name, value):
    return value.dim() == 2 and "temperature" not in name


def switch_off_biases(config, gradients):
    entrain, width = config["entrain"], config["n_embd"]
    for name, g in gradients.items():
        if name.endswith("c_attn.bias") and not entrain["vo_bias"]:
            g[2 * width :] = 0.0
        if name.endswith("attn.c_proj.bias") and not entrain["vo_bias"]:
            g.zero_()
        if ".mlp." in name and name.endswith(".bias") and not entrain["ffn_bias"]:
            g.zero_()


def gradients(config, weights, tokens, rounded=lambda x: x, round_matrix=lambda x: x, exp=torch.exp):
    w = {k: v.clone().requires_grad_(True) for k, v in weights.items()}
    loss, total = forward(config, w, tokens, rounded, round_matrix, exp)
    total.backward()
    found = {k: v.grad for k, v in w.items() if v.grad is not None}
    switch_off_biases(config, found)
    return loss.item(), found


def moved_by_rounding(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    sign = lambda v: torch.randint(0, 2, v.shape, generator=generator).double() * 2 - 1
    return {k: v * (1 + FP32_ROUNDING * sign(v)) for k, v in weights.items()}


def cuda_fp32_gradients(config, weights, tokens, seed):
    """As fp32 arithmetic of a GPU may compute them."""
    generator = torch.Generator().manual_seed(seed)

    def exp(x):
        y = x.exp()
        return y * (1 + (2 * torch.rand(y.shape, generator=generator) - 1) * CUDA_EXP_ERROR)

    weights = {k: v.float() for k, v in moved_by_rounding(weights, seed).items()}
    _, found = gradients(config, weights, tokens, exp=exp)
    return {k: v.double() for k, v in found.items()}


def coarse_weights(weights, seed):
    """Matrices as bf16 may hold them: rounded (seed 0), or off by a random rounding error."""
    generator = torch.Generator().manual_seed(seed)
    coarse = {}
    for k, v in weights.items():
        if not is_matrix(k, v) or "weight_v" in k:
            coarse[k] = v
        elif seed == 0:
            coarse[k] = v.bfloat16().double()
        else:
            error = torch.rand(v.shape, generator=generator, dtype=torch.float64) * 2 - 1
            coarse[k] = v * (1 + BF16_ROUNDING * error)
    return coarse


def relative(a, b):
    return {k: ((a[k] - b[k]).norm() / b[k].norm()).item() for k in b if b[k].norm() > 0}


def bf16_gradients(config, weights, tokens, seed):
    return gradients(config, coarse_weights(weights, seed), tokens, Bf16Rounding.apply, Bf16Rounding.apply)


def adamw_losses(config, weights, tokens, settings, gradients_at=lambda config, w, tokens, step: gradients(config, w, tokens)):
    w = {k: v.clone() for k, v in weights.items()}
    m = {k: torch.zeros_like(v) for k, v in w.items()}
    v2 = {k: torch.zeros_like(v) for k, v in w.items()}
    losses = []
    for step in range(1, 11):
        loss, g = gradients_at(config, w, tokens, step)
        losses.append(loss)
        norm = math.sqrt(sum((x**2).sum().item() for x in g.values()))
        scale = min(1.0, settings["clip"] / (norm + 1e-6))
        for k, x in g.items():
            m[k] = settings["beta1"] * m[k] + (1 - settings["beta1"]) * x * scale
            v2[k] = settings["beta2"] * v2[k] + (1 - settings["beta2"]) * (x * scale) ** 2
            decay = settings["weight_decay"] if is_matrix(k, w[k]) else 0.0
            update = m[k] / (1 - settings["beta1"] ** step)
            update = update / ((v2[k] / (1 - settings["beta2"] ** step)).sqrt() + settings["eps"])
            w[k] = w[k] - settings["lr"] * (update + decay * w[k])
            if k.endswith("temperature"):
                w[k] = w[k].clamp(min=config["entrain"]["temperature_min"])
    return np.array(losses)


def floors(name):
    config, weights, tokens, expected = load(name)
    _, exact = gradients(config, weights, tokens)
    golden = {k: v.double() for k, v in load_file(ROOT / "golden" / name / "gradients.safetensors").items()}
    assert max(relative(exact, golden).values()) < 1e-6, "this script does not reproduce the golden gradients"
    f32 = {}
    for seed in range(DRAWS):
        for k, e in relative(gradients(config, moved_by_rounding(weights, seed), tokens)[1], exact).items():
            f32[k] = max(e, f32.get(k, 0.0))
    f32_cuda = {}
    for seed in range(DRAWS):
        for k, e in relative(cuda_fp32_gradients(config, weights, tokens, seed), exact).items():
            f32_cuda[k] = max(e, f32_cuda.get(k, 0.0))
    bf16 = {}
    for seed in range(DRAWS):
        for k, e in relative(bf16_gradients(config, weights, tokens, seed)[1], exact).items():
            bf16[k] = max(e, bf16.get(k, 0.0))
    losses = adamw_losses(config, weights, tokens, expected["adamw"])
    steps = np.array([step["loss"] for step in expected["adamw"]["steps"]])
    assert np.abs(losses / steps - 1).max() < 1e-6, "this script does not reproduce the golden losses"
    adamw = np.zeros(10)
    adamw_bf16 = np.zeros(10)
    for seed in range(DRAWS):
        moved = adamw_losses(config, moved_by_rounding(weights, seed), tokens, expected["adamw"])
        adamw = np.maximum(adamw, np.abs(moved / losses - 1))
        # Draw 0 rounds to the nearest at every step; the others draw other errors at every step.
        at = lambda config, w, tokens, step: bf16_gradients(config, w, tokens, seed and 100 * seed + step)
        moved = adamw_losses(config, weights, tokens, expected["adamw"], at)
        adamw_bf16 = np.maximum(adamw_bf16, np.abs(moved / losses - 1))
    keep = lambda table, kind: {k: float(f"{e:.2e}") for k, e in table.items() if e > REPORTED[kind]}
    moves = lambda steps: {str(i + 1): e for i, e in enumerate(steps)}
    return {
        "f32": keep(f32, "f32"),
        "f32_cuda": keep(f32_cuda, "f32_cuda"),
        "bf16": keep(bf16, "bf16"),
        "adamw": keep(moves(adamw), "adamw"),
        "adamw_bf16": keep(moves(adamw_bf16), "adamw_bf16"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    table = {folder.name: floors(folder.name) for folder in sorted((ROOT / "golden").iterdir())}
    (ROOT / "golden_floor.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))
