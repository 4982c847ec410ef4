"""Two ranks beside one: whole training steps of `entrain train` on random tokens, one rank of two threads against two ranks of
one thread each, over dp (plain and with ZeRO stage 1) and over tp (plain and sequence parallel). Prints tokens/s and their
ratio, where communication's time went, and each rank's peak memory beside what --dry-run says.

    python3 tests/bench/ranks_bench.py [--layers 12] [--width 768] [--steps 2] [--rounds 1] ...

The configurations take turns, a round after another, so that a noisy machine hits all alike; medians over the timed steps of
all rounds. Every run begins with one step that is left out: memory is touched, products are compiled.
"""

import argparse
import array
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEXT, VOCAB, HEAD_WIDTH = 128, 50257, 64
DISJOINT = ("data", "forward", "entropy", "backward", "optimizer", "communication_exposed")


@dataclass
class Setup:
    name: str
    dp: int = 1
    tp: int = 1
    overrides: tuple = ()
    tokens_per_second: list = field(default_factory=list)
    times: dict = field(default_factory=dict)
    peak_bytes: int = 0
    planned_bytes: float = 0.0

    @property
    def ranks(self):
        return self.dp * self.tp

    def share(self, name):
        whole = sum(self.times[section] for section in DISJOINT)
        return 100.0 * self.times[name] / whole

    def hidden(self):
        hidden = self.times["communication_hidden"]
        communication = hidden + self.times["communication_exposed"]
        return 100.0 * hidden / communication if communication > 0.0 else 0.0


def setups():
    return [
        Setup("1 rank x 2 threads"),
        Setup("dp 2", dp=2),
        Setup("dp 2, ZeRO 1", dp=2, overrides=("parallel.zero=1",)),
        Setup("tp 2", tp=2),
        Setup("tp 2, sequence parallel", tp=2, overrides=("parallel.sequence_parallel=true",)),
    ]


def write_tokens(path, count):
    """A shard in llm.c's layout: 256 numbers of header (magic, version, count), then 16 bits a token."""
    header = array.array("i", [20240520, 1, count] + [0] * 253)
    tokens = array.array("H", random.Random(1).choices(range(VOCAB), k=count))
    if sys.byteorder != "little":
        header.byteswap()
        tokens.byteswap()
    with open(path, "wb") as file:
        header.tofile(file)
        tokens.tofile(file)


def write_config(folder, options, architecture):
    """As in train_bench: a learning rate at which a model without norms survives noise."""
    path = folder / f"{architecture}.toml"
    path.write_text(f"""
[run]
dir = "{folder}/run"
[model]
architecture = "{architecture}"
layers = {options.layers}
heads = {options.width // HEAD_WIDTH}
width = {options.width}
context = {CONTEXT}
vocab = {VOCAB}
[data]
train = "{folder}/tokens.bin"
[train]
steps = {options.steps + 1}
global_batch = {options.batch}
precision = "{options.precision}"
[optimizer]
lr = 1e-6
[checkpoint]
every = 0
[logging]
every = 1
""")
    return path


def command(options, config, setup, more=()):
    """The training command: a micro-step has as many sequences whatever the mesh, a rank has its share of two threads."""
    overrides = setup.overrides + (
        f"parallel.tp={setup.tp}",
        f"train.micro_batch={options.micro_step // setup.dp}",
        f"train.threads={2 // setup.ranks}",
    )
    line = [str(ROOT / "build/entrain"), "train", "--config", str(config), *more]
    for override in overrides:
        line += ["--set", override]
    return line


def plan(options, config, setup):
    """The banner of a dry run: the processor, and the memory that a rank is to take, in bytes."""
    ranks = ("--ranks", str(setup.ranks)) if setup.ranks > 1 else ()
    line = command(options, config, setup, ("--dry-run", *ranks))
    banner = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    device = re.search(r"^device +(.*?), \d+ thread", banner, re.MULTILINE).group(1)
    megabytes = re.search(r"^memory +(\d+) MB", banner, re.MULTILINE).group(1)
    return device, 1e6 * float(megabytes)


def descendants(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return []
    return [pid] + [process for child in children for process in descendants(int(child))]


def peak_memory(pid):
    """VmHWM in bytes of a process that is a rank; else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    is_rank = re.search(r"^Name:\s+entrain$", status, re.MULTILINE)
    return 1024 * int(peak.group(1)) if is_rank and peak else 0


def run(line, log):
    """Runs it to its end; the largest peak memory of any rank."""
    peak = 0
    with open(log, "w") as output:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max([peak] + [peak_memory(pid) for pid in descendants(process.pid)])
            time.sleep(0.05)
    if process.returncode != 0:
        sys.exit(f"{' '.join(line)}\nended with {process.returncode}:\n{Path(log).read_text()}")
    return peak


def measure(options, config, folder, setup):
    line = command(options, config, setup, ("--resume", "never"))
    if setup.ranks > 1:
        line = ["mpirun", "-n", str(setup.ranks), "--bind-to", "none", "--oversubscribe"] + line
    setup.peak_bytes = max(setup.peak_bytes, run(line, folder / "log"))
    metrics = (folder / "run/metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, metrics[1:]):
        setup.tokens_per_second.append(record["tokens_per_second"])
        for name, seconds in record["times"].items():
            setup.times[name] = setup.times.get(name, 0.0) + seconds
    subprocess.run(["rm", "-rf", folder / "run"], check=True)


def print_table(architecture, options, done):
    print(f"\n{architecture}, {options.layers} layers, width {options.width}, vocabulary {VOCAB}, T {CONTEXT}, "
          f"global batch {options.batch}, micro-steps of {options.micro_step}, {options.precision}")
    print(f"{'':24s} {'tokens/s':>9s} {'of 1 rank':>9s} {'exposed':>9s} {'hidden':>9s} {'entropy':>9s}"
          f" {'memory':>10s} {'planned':>10s}")
    one = statistics.median(done[0].tokens_per_second)
    for setup in done:
        speed = statistics.median(setup.tokens_per_second)
        print(f"{setup.name:24s} {speed:9.1f} {100 * speed / one:7.1f} % {setup.share('communication_exposed'):7.2f} %"
              f" {setup.hidden():7.0f} % {setup.share('entropy_reduction'):7.2f} % {setup.peak_bytes / 1e6:7.0f} MB"
              f" {setup.planned_bytes / 1e6:7.0f} MB {100 * (setup.peak_bytes / setup.planned_bytes - 1):+.1f} %")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help=f"a multiple of {2 * HEAD_WIDTH}")
    parser.add_argument("--batch", type=int, default=32, help="sequences a step")
    parser.add_argument("--micro-step", type=int, default=8, help="sequences a micro-step, of all ranks together")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=2, help="timed steps a run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--architectures", nargs="+", default=["sm-ln-g", "ereg"])
    options = parser.parse_args()
    if options.width % (2 * HEAD_WIDTH) != 0:
        parser.error(f"--width {options.width}: must be a multiple of {2 * HEAD_WIDTH}, for heads are shared by two ranks")
    if options.batch % options.micro_step != 0 or options.micro_step % 2 != 0:
        parser.error("--micro-step: must be even and divide --batch")
    return options


def main():
    options = parse_options()
    # As in a container, root may start ranks.
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with tempfile.TemporaryDirectory(prefix="ranks_bench_") as name:
        folder = Path(name)
        write_tokens(folder / "tokens.bin", (options.steps + 2) * options.batch * CONTEXT + 1)
        for architecture in options.architectures:
            config = write_config(folder, options, architecture)
            done = setups()
            for setup in done:
                device, setup.planned_bytes = plan(options, config, setup)
            if architecture == options.architectures[0]:
                print(f"{device}, {os.cpu_count()} cores; medians of {options.rounds} x {options.steps} steps")
            for _ in range(options.rounds):
                for setup in done:
                    measure(options, config, folder, setup)
            print_table(architecture, options, done)
    print("""
exposed: share of the step in which the first rank waited for collectives, for the other rank with them. hidden: share of
communication that was under way while it computed. entropy: share of the step that it waited for the sum of entropies.
asked for: dp 2 at least 96 % of one rank, exposed at most 2 %, entropy at most 0.5 %; tp 2 at least 88 %; memory within 5 %.""")


if __name__ == "__main__":
    main()
