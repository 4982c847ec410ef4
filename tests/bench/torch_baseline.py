"""PyTorch on a GPU at the models of gpu_bench's steps: whole AdamW steps on random tokens, bf16 autocast, torch.compile, fused AdamW,
gradients clipped. Two kinds of attention: scaled_dot_product_attention, as fast as PyTorch goes but without entropies, and
probabilities that are materialised, as an entropy regulariser in PyTorch needs them. Prints tokens/s beside gpu_bench's.

    python3 tests/bench/torch_baseline.py [--results gpu_bench.jsonl] [--json OUT] [--quick] [--smoke] [--no-compile]
                                          [--only PART OF A NAME] [--budget SECONDS]
"""

import argparse
import dataclasses
import gc
import json
import math
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    import torch.utils.checkpoint
    from torch import nn
except ImportError:
    torch = None

SKIPPED = 77


@dataclasses.dataclass
class Case:
    name: str
    layers: int
    heads: int
    width: int
    batch: int
    context: int
    vocab: int = 50304  # padded, as all do
    entropy: bool = False
    recompute: bool = False
    # The architecture of Entrain's case: GPT-2's, or without norms and with one fused matrix for an FFN.
    softmax_only: bool = False


def cases(quick, smoke):
    if smoke:
        tiny = dict(layers=2, heads=2, width=64, batch=2, context=32, vocab=256)
        return [Case("tiny sm-ln-g 2 x 32", **tiny), Case("tiny ereg 2 x 32", **tiny, entropy=True, softmax_only=True)]
    small = dict(layers=12, heads=12, width=768)
    found = []
    for batch, context in ((64, 1024), (128, 512), (512, 128)):
        sizes = dict(small, batch=batch, context=context)
        found.append(Case(f"124M sm-ln-g {batch} x {context}", **sizes))
        found.append(Case(f"124M ereg {batch} x {context}", **sizes, entropy=True, softmax_only=True))
        found.append(Case(f"124M ereg {batch} x {context}, no regulariser", **sizes, softmax_only=True))
        if quick:
            break  # each compiles for a quarter of a minute
    found.append(Case("350M sm-ln-g 32 x 1024", 24, 16, 1024, 32, 1024))
    found.append(Case("1558M sm-ln-g 16 x 1024", 48, 25, 1600, 16, 1024, recompute=True))
    return found


if torch is not None:

    class Attention(nn.Module):
        """Returns the heads' output and, when it materialises probabilities, the mean entropy of each head."""

        def __init__(self, case):
            super().__init__()
            self.case = case
            self.qkv, self.out = nn.Linear(case.width, 3 * case.width), nn.Linear(case.width, case.width)
            shape = (case.heads, case.context, 1)
            self.temperature = nn.Parameter(torch.ones(shape)) if case.softmax_only else None
            mask = torch.ones(case.context, case.context, dtype=torch.bool).triu(1)
            self.register_buffer("mask", mask, persistent=False)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (z.view(b, t, self.case.heads, -1).transpose(1, 2) for z in self.qkv(x).split(c, 2))
            if self.temperature is not None:
                q = q / self.temperature.to(q.dtype)
            entropy = None
            if self.case.entropy:
                scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1])
                probabilities = scores.masked_fill(self.mask, float("-inf")).softmax(-1)
                entropy = -(probabilities * (probabilities + 1e-9).log()).sum(-1).mean((0, 2))
                y = probabilities.to(v.dtype) @ v
            else:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, c)), entropy

    class Block(nn.Module):
        def __init__(self, case):
            super().__init__()
            self.attention = Attention(case)
            if case.softmax_only:
                self.ln_1, self.ln_2 = nn.Identity(), nn.Identity()
                self.ffn = nn.Linear(case.width, case.width)
            else:
                self.ln_1, self.ln_2 = nn.LayerNorm(case.width), nn.LayerNorm(case.width)
                self.ffn = nn.Sequential(
                    nn.Linear(case.width, 4 * case.width), nn.GELU(approximate="tanh"), nn.Linear(4 * case.width, case.width)
                )

        def forward(self, x):
            attended, entropy = self.attention(self.ln_1(x))
            x = x + attended
            return x + self.ffn(self.ln_2(x)), entropy

    class Gpt(nn.Module):
        def __init__(self, case):
            super().__init__()
            self.case = case
            self.wte, self.wpe = nn.Embedding(case.vocab, case.width), nn.Embedding(case.context, case.width)
            self.blocks = nn.ModuleList(Block(case) for _ in range(case.layers))
            self.norm = nn.Identity() if case.softmax_only else nn.LayerNorm(case.width)
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe.weight
            penalty = 0.0
            for block in self.blocks:
                if self.case.recompute:
                    x, entropy = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
                else:
                    x, entropy = block(x)
                if entropy is not None:
                    most = math.log(self.case.context)
                    deviation = entropy - 0.35 * most
                    gate = (deviation.abs() > 0.2 * most).detach()
                    penalty = penalty + (deviation.square() * gate).mean() / self.case.layers
            logits = F.linear(self.norm(x), self.wte.weight)
            loss = F.cross_entropy(logits.view(-1, self.case.vocab).float(), targets.reshape(-1))
            return loss + 0.164 * penalty


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(case, device, compiled, steps):
    """Tokens/s, and the most memory that was allocated, in bytes."""
    torch.manual_seed(0)
    model = Gpt(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.1, fused=device == "cuda")
    forward = torch.compile(model) if compiled else model
    tokens = torch.randint(0, case.vocab, (case.batch, case.context + 1), device=device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = forward(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    for _ in range(3):
        step()
    seconds = []
    for _ in range(steps):
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return case.batch * case.context / statistics.median(seconds), memory


def rates_of(path):
    """Entrain's tokens/s by case, from what gpu_bench wrote."""
    rates = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                result = json.loads(line)
                if "tokens_per_second" in result:
                    rates[result["name"]] = result["tokens_per_second"]
    except OSError as error:
        print(f"no results of gpu_bench: {error}")
    return rates


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", help="what gpu_bench --json wrote")
    parser.add_argument("--json", help="write the results here, an object a line")
    parser.add_argument("--quick", action="store_true", help="the cases of gpu_bench --quick")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, on the CPU without a GPU")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--budget", type=float, default=1e9, help="begin no case after so many seconds")
    return parser.parse_args()


def run_case(case, device, options, ours):
    """The case's result; prints its line."""
    result = {"kind": "torch", "name": case.name, "entropy": case.entropy}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    steps = 1 if options.smoke else 5 if options.quick else 10
    compiled = not options.no_compile and not options.smoke
    rate = None
    while rate is None and case.batch > 1:
        try:
            rate, memory = measure(case, device, compiled, steps)
        except torch.OutOfMemoryError:
            case = dataclasses.replace(case, batch=case.batch // 2)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    if rate is None:
        print(f"{case.name:44s} out of memory")
        return dict(result, left_out="out of memory")
    result.update(tokens_per_second=rate, bytes=memory, batch=case.batch)
    beside = "" if case.name.find(f" {case.batch} x ") >= 0 else f"   only {case.batch} fit"
    # Autocast's logits are bf16.
    for suffix, kind in (("", "ratio"), (", bf16 logits", "ratio_bf16_logits")):
        if case.name + suffix in ours:
            result[kind] = ours[case.name + suffix] / rate
            beside += f"   Entrain{suffix} {ours[case.name + suffix]:8.0f}, {result[kind]:.2f} times"
    print(f"{case.name:44s} {rate:10.0f} tokens/s {memory / 1e9:7.2f} GB{beside}", flush=True)
    return result


def main():
    options = arguments()
    if torch is None:
        print("no PyTorch in this python3: left out")
        return SKIPPED
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.smoke:
        print("PyTorch sees no GPU: left out")
        return SKIPPED
    torch.set_float32_matmul_precision("high")
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}")
    ours = rates_of(options.results) if options.results else {}
    start = time.monotonic()
    for case in cases(options.quick, options.smoke):
        if options.only not in case.name:
            continue
        if time.monotonic() - start > options.budget:
            print(f"{case.name:44s} left out: no time")
            continue
        result = run_case(case, device, options, ours)
        if options.json:
            with open(options.json, "a", encoding="utf-8") as out:
                out.write(json.dumps(result) + "\n")
        torch._dynamo.reset()
    return 0


if __name__ == "__main__":
    sys.exit(main())
