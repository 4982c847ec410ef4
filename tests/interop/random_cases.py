"""Golden cases of configurations drawn at random: every key of the model family, sizes that are no multiple of a vector.

    python3 tests/interop/random_cases.py FOLDER --seed 1 --count 6 [--only 3]

Each case is a folder FOLDER/<number> laid out as a golden case, whose numbers the float64 model beside this file makes.
Case n of a seed is always the same. expected.json also says which training step the gradients are those of ("gradient"), how
the batch is cut ("adamw": micro_batch, recompute), and floor.json how far rounding alone moves each number: that of the weights and of
what is kept between operations.
"""

import argparse
import json
import math
import pathlib
import random
import typing

import torch
from safetensors.torch import save_file

import reference_model as model

DRAWS = 8
MARGIN = 2.0  # of hundreds of numbers some are further out than a few draws show
STEPS = 10
FP32_ROUNDING = 2.0**-24
BF16_ROUNDING = 2.0**-9
WIDEST = 160
LONGEST_BATCH = 400  # rows


def chance(rng, probability):
    return rng.random() < probability


def log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


# ---- configurations ----


def draw_sizes(rng):
    head_width = rng.choice([1, 2, 4, 5, 8, 12, 16, 20, 32, 33, 64, 64, 80, 96, 128])
    # A norm over three numbers or fewer leaves hardly a gradient.
    heads = rng.randint(-(-4 // head_width), max(1, min(6, WIDEST // head_width)))
    return {
        "vocab_size": rng.choice([1, 2, 17, 127, 128, 300, 1031]),
        "n_positions": rng.choice([1, 2, 3, 7, 16, 17, 31, 63, 64, 65, 127, 128, 129, 130, 255, 256, 257, 320]),
        "n_embd": heads * head_width,
        "n_layer": rng.randint(1, 3),
        "n_head": heads,
        "n_inner": 4 * heads * head_width,
    }


def draw_position(rng, head_width):
    """Rotary where at least two dims of a head turn."""
    share = rng.choice([0.25, 0.5, 0.75, 1.0, round(rng.uniform(0.25, 1.0), 3)])
    if chance(rng, 0.5) or math.floor(share * head_width) < 2:
        return {"position": "learned"}
    return {"position": "rotary", "rotary_pct": share}


def draw_regularizer(rng):
    if chance(rng, 0.35):
        return None
    reg = {
        "granularity": rng.choice(["head", "query"]),
        "strength": rng.choice([0.0, 0.164, 1.0, 5.0]),
        "margin": rng.choice([0.0, 0.05, 0.2, 0.5]),
        "max_entropy": rng.choice(["log_t", "causal"]),
    }
    if chance(rng, 0.4):
        reg["statistics"] = "previous_step"
    if chance(rng, 0.4):
        reg["start_step"] = rng.randint(0, 3)
        reg["warmup_steps"] = rng.randint(0, 6)
    return reg


def draw_config(rng):
    sizes = draw_sizes(rng)
    ffn = rng.choice(["gelu", "relu", "identity", "fused"])
    entrain = {
        "block": rng.choice(["sequential", "parallel"]),
        **draw_position(rng, sizes["n_embd"] // sizes["n_head"]),
        "block_norm": rng.choice(["layernorm", "none"]),
        "final_norm": "none" if chance(rng, 0.2) else "layernorm",
        "ffn": ffn,
        "ffn_pruned": rng.choice([0, 0, rng.randint(0, sizes["n_layer"])]),
        "ffn_scaling": chance(rng, 0.5),
        "ffn_weight_norm": rng.choice(["none", "none", "weight", "weight", "spectral"]),
        "temperature": rng.choice(["none", "per_query", "per_head"]),
        "temperature_min": rng.choice([1e-3, 5e-3]),
        "qk_bias": chance(rng, 0.6),
        "vo_bias": chance(rng, 0.5),
        "ffn_bias": chance(rng, 0.5),
        "entropy_regularizer": draw_regularizer(rng),
    }
    if entrain["ffn_weight_norm"] == "weight":
        entrain["weight_norm_axis"] = rng.choice(["output", "input"])
    return {
        "model_type": "gpt2",
        **sizes,
        "activation_function": "relu" if ffn == "relu" and chance(rng, 0.5) else "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": chance(rng, 0.5),
        "entrain": entrain,
    }


# ---- weights ----


class WeightDraw:
    """Values of trained size: activations and logits about 1, everything that starts at a constant moved off it."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.generator = torch.Generator().manual_seed(rng.getrandbits(60))
        self.weights = {}

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def matrix(self, name, rows, columns, std):
        self.weights[name] = std * self.normal(rows, columns)

    def bias(self, name, size, on):
        self.weights[name] = 0.1 * self.normal(size) * on

    def norm(self, name, kind):
        if kind == "layernorm":
            self.weights[name + ".weight"] = 1.0 + 0.3 * self.normal(self.config["n_embd"])
            self.weights[name + ".bias"] = 0.2 * self.normal(self.config["n_embd"])

    def temperature(self, prefix, kind):
        """Those of one layer are alike: attention is as sharp as the first of them says."""
        shape = {"per_query": (self.config["n_head"], self.config["n_positions"]), "per_head": (self.config["n_head"],)}
        if kind in shape:
            middle = log_uniform(self.rng, 1e-2, 3.0)
            self.weights[prefix + "temperature"] = middle * self.uniform(0.7, 1.4, *shape[kind])

    def attention(self, prefix, entrain):
        width, heads = self.config["n_embd"], self.config["n_head"]
        self.matrix(prefix + "c_attn.weight", width, 3 * width, self.rng.uniform(0.5, 1.5) / math.sqrt(width))
        qk = 0.1 * self.normal(2 * width) * entrain["qk_bias"]
        self.weights[prefix + "c_attn.bias"] = torch.cat([qk, 0.1 * self.normal(width) * entrain["vo_bias"]])
        self.matrix(prefix + "c_proj.weight", width, width, 0.7 / math.sqrt(width))
        self.bias(prefix + "c_proj.bias", width, entrain["vo_bias"])
        self.temperature(prefix, entrain["temperature"])
        if entrain["entropy_regularizer"]:
            self.weights[prefix + "entropy_threshold"] = self.uniform(0.05, 0.95, heads)

    def ffn_matrix(self, name, rows, columns, entrain):
        self.matrix(name + ".weight", rows, columns, 1.0 / math.sqrt(rows))
        raw = self.weights[name + ".weight"]
        if entrain["ffn_weight_norm"] == "weight":
            raw = self.weights.pop(name + ".weight")
            self.weights[name + ".weight_v"] = raw
            norms = raw.norm(dim=0 if entrain["weight_norm_axis"] == "output" else 1)
            self.weights[name + ".weight_g"] = norms * (1.0 + 0.3 * self.normal(len(norms)))
        elif entrain["ffn_weight_norm"] == "spectral":
            # One singular value stands out, so that power iterations soon find it from anywhere.
            left, right = self.normal(rows), self.normal(columns)
            raw += 4.0 * torch.outer(left / left.norm(), right / right.norm())
        self.bias(name + ".bias", columns, entrain["ffn_bias"])

    def ffn(self, prefix, entrain):
        width, inner = self.config["n_embd"], self.config["n_inner"]
        if entrain["ffn"] == "fused":
            self.ffn_matrix(prefix + "c_fused", width, width, entrain)
        else:
            self.ffn_matrix(prefix + "c_fc", width, inner, entrain)
            self.ffn_matrix(prefix + "c_proj", inner, width, entrain)
        if entrain["ffn_scaling"]:
            self.weights[prefix + "alpha"] = self.uniform(0.4, 2.0, 1)
            self.weights[prefix + "beta"] = self.uniform(0.4, 1.5, 1)

    def all(self):
        config, entrain = self.config, self.config["entrain"]
        std = 1.5 / math.sqrt(config["n_embd"])
        self.matrix("transformer.wte.weight", config["vocab_size"], config["n_embd"], std)
        if entrain["position"] == "learned":
            self.matrix("transformer.wpe.weight", config["n_positions"], config["n_embd"], 0.5 * std)
        for layer in range(config["n_layer"]):
            prefix = f"transformer.h.{layer}."
            self.norm(prefix + "ln_1", entrain["block_norm"])
            self.attention(prefix + "attn.", entrain)
            if layer < config["n_layer"] - entrain["ffn_pruned"]:
                self.norm(prefix + "ln_2", entrain["block_norm"])
                self.ffn(prefix + "mlp.", entrain)
        self.norm("transformer.ln_f", entrain["final_norm"])
        if not config["tie_word_embeddings"]:
            self.matrix("lm_head.weight", config["vocab_size"], config["n_embd"], std)
        return {name: value.float().double() for name, value in self.weights.items()}


# ---- what is expected ----


def draw_settings(rng, batch):
    return {
        "lr": rng.choice([3e-4, 1e-3, 3e-3]),
        "beta1": 0.9,
        "beta2": rng.choice([0.95, 0.999]),
        "eps": 1e-8,
        "weight_decay": rng.choice([0.0, 0.1]),
        "clip": rng.choice([0.0, 1.0]),
        "micro_batch": rng.choice([size for size in range(1, batch + 1) if batch % size == 0]),
        "recompute": chance(rng, 0.3),
    }


class Case:
    """Case `number` of a seed, and what the reference model makes of it."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed}/{number}")
        self.config = draw_config(rng)
        self.weights = WeightDraw(self.config, rng).all()
        self.batch = rng.randint(1, max(1, min(5, LONGEST_BATCH // self.config["n_positions"])))
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        size = self.batch * self.config["n_positions"] + 1
        self.tokens = torch.randint(0, self.config["vocab_size"], (size,), generator=generator)
        self.settings = draw_settings(rng, self.batch)
        reg = self.config["entrain"]["entropy_regularizer"]
        # A step at which the regulariser is felt; only the first when there is none.
        self.step = reg.get("start_step", 0) + rng.randint(0, reg.get("warmup_steps", 0)) if reg else 0

    def evaluate(self, weights):
        return model.evaluate(self.config, weights, self.tokens, model.leading_vectors(self.config, weights))

    def gradients(self, gradients_at=model.step_gradients):
        """Losses and gradients of step `step`, whose previous step had the same entropies."""
        at = lambda previous: gradients_at(self.config, self.weights, self.tokens, self.settings["micro_batch"], self.step,
                                           previous, model.leading_vectors(self.config, self.weights))
        return at(at(None)[0].entropy.mean((1, 3)) if model.judges_by_previous(self.config) else None)

    def train(self, gradients_at=model.step_gradients):
        return model.train(self.config, self.weights, self.tokens, self.settings, STEPS, gradients_at)


class Exact(typing.NamedTuple):
    """What a case is held to."""

    losses: model.Losses  # of step case.step
    gradients: dict
    evaluated: model.Losses
    steps: list


def exact(case):
    return Exact(*case.gradients(), case.evaluate(case.weights), case.train())


def table_of(case, expected):
    losses, _, evaluated, steps = expected
    return {
        "loss": evaluated.loss.item(),
        "penalty": evaluated.penalty.item(),
        "total": evaluated.total.item(),
        "head_entropy": evaluated.entropy.mean((1, 3)).tolist(),
        "gradient": {"step": case.step, "loss": losses.loss.item(), "penalty": losses.penalty.item(), "total": losses.total.item()},
        "adamw": {**case.settings, "steps": steps},
    }


# ---- floors ----


def moved_by_rounding(weights, generator):
    """Every weight by half a unit of its last fp32 place, up or down."""
    sign = lambda value: torch.randint(0, 2, value.shape, generator=generator).double() * 2 - 1
    return {name: value * (1 + FP32_ROUNDING * sign(value)) for name, value in weights.items()}


def coarse(config, weights, generator):
    """Matrices as bf16 may hold them: rounded, or, with a generator, off by a random rounding error."""
    factored = config["entrain"]["ffn_weight_norm"] != "none"
    result = {}
    for name, value in weights.items():
        if not model.is_matrix(name, value) or (factored and ".mlp." in name):
            result[name] = value
        elif generator is None:
            result[name] = value.bfloat16().double()
        else:
            error = torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 1
            result[name] = value * (1 + BF16_ROUNDING * error)
    return result


def fp32_step(generator):
    """model.step_gradients as an fp32 trainer may compute it."""
    return lambda config, weights, *args: model.step_gradients(
        config, moved_by_rounding(weights, generator), *args, rounding=model.FP32)


def plain_fp32_step(generator):
    """The same with every operation in fp32: sums and differences round too."""

    def step(config, weights, *args):
        *rest, u = args
        plain = {name: value.float() for name, value in u.items()}
        weights = {name: value.float() for name, value in moved_by_rounding(weights, generator).items()}
        losses, gradients = model.step_gradients(config, weights, *rest, plain)
        u.update({name: value.double() for name, value in plain.items()})
        return losses, {name: value.double() for name, value in gradients.items()}

    return step


def bf16_step(generator):
    """The same in bf16."""
    return lambda config, weights, *args: model.step_gradients(
        config, coarse(config, weights, generator), *args, rounding=model.BF16)


def relative(found, exact):
    return {k: ((found[k] - exact[k]).norm() / exact[k].norm()).item() for k in exact if exact[k].norm() > 0}


def changes(found, exact):
    """Of a step's or an evaluation's numbers, as golden_checks compares them: entropies of heads and the penalty are absolute."""
    share = lambda name: abs(getattr(found, name) - getattr(exact, name)).item() / max(getattr(exact, name).item(), 1e-300)
    heads = lambda losses: losses.entropy.detach().double().mean((1, 3))
    return {
        "loss": share("loss"),
        "penalty": abs(found.penalty - exact.penalty).item(),
        "total": share("total"),
        "entropy": (heads(found) - heads(exact)).abs().max().item(),
    }


def relative_losses(found, exact):
    """By step, the larger of the loss's and the penalty's; absolute where they are small, as GoldenSteps are compared. And the
    first gradient's norm's."""
    change = lambda a, b: max(abs(a["loss"] - b["loss"]) / max(1e-2, b["loss"]),
                              abs(a["penalty"] - b["penalty"]) / max(1.0, b["penalty"]))
    table = {str(i + 1): change(a, b) for i, (a, b) in enumerate(zip(found, exact))}
    first, norm = found[0]["grad_norm"], exact[0]["grad_norm"]
    return {**table, "grad_norm": abs(first - norm) / max(norm, 1e-300)}


def largest(tables):
    return {key: MARGIN * max(table[key] for table in tables) for key in tables[0]}


def floors(case, expected):
    """Largest changes over a few draws, in the kinds that GoldenCase knows."""
    losses, gradients, evaluated, steps = expected
    generators = [torch.Generator().manual_seed(draw) for draw in range(DRAWS)]
    fine = [make(generator) for make, generator in zip([fp32_step, plain_fp32_step] * DRAWS, generators)]
    rough = [bf16_step(generator) for generator in [None, *generators[1:]]]
    table = {"adamw": largest([relative_losses(case.train(step), steps) for step in fine[:8]])}
    for kind, draws in {"f32": fine, "bf16": rough}.items():
        found = [case.gradients(step) for step in draws]
        table[kind] = largest([relative(g, gradients) for _, g in found])
        table["losses_" + kind] = largest([changes(x, losses) for x, _ in found])
    moved = [moved_by_rounding(case.weights, generator) for generator in generators]
    plain = [{name: value.float() for name, value in weights.items()} for weights in moved]
    table["eval"] = largest([changes(case.evaluate(weights), evaluated) for weights in plain])
    return table


# ---- files ----


def write_tokens(path, tokens):
    header = torch.zeros(256, dtype=torch.int32)
    header[:3] = torch.tensor([20240520, 1, len(tokens)])
    path.write_bytes(header.numpy().tobytes() + tokens.numpy().astype("<u2").tobytes())


def save(path, tensors):
    save_file({name: value.float().contiguous() for name, value in tensors.items()}, path)


def write_case(folder, seed, number):
    case = Case(seed, number)
    expected = exact(case)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    (folder / "expected.json").write_text(json.dumps(table_of(case, expected), indent=1) + "\n")
    (folder / "floor.json").write_text(json.dumps(floors(case, expected), indent=1) + "\n")
    save(folder / "model.safetensors", case.weights)
    save(folder / "gradients.safetensors", expected.gradients)
    write_tokens(folder / "tokens.bin", case.tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--only", type=int, help="the number of one case to make")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    for number in numbers:
        write_case(arguments.folder / str(number), arguments.seed, number)


if __name__ == "__main__":
    main()
