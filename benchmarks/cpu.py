"""Measures two habits of a CPU that cost an encoder most: how matrix products are run, and where freed memory goes.

    python benchmarks/cpu.py [--pages 8]

A product is timed as PyTorch's own and as a 1 x 1 convolution (moca_rag/products.py), forward and with both gradients. Pages
are embedded by a random model of 15 million weights in two fresh processes, one of which keeps its memory
(moca_rag/memory.py), the other not.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from encode import make_backbone, make_config, make_tokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import linear

from moca_rag.embedder import Embedder
from moca_rag.products import multiply

SIZES = ((4032, 192, 576), (4032, 512, 192), (1016, 320, 1280), (1016, 1280, 320))
PAGE = (1008, 784, 3)  # Letter: 1,008 visual tokens


def best_seconds(run: Callable[[], object], rounds: int = 30) -> float:
    """The fastest of some rounds."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_products() -> None:
    """One line a size."""
    print(
        f"{'rows x inner x columns':<24}{'PyTorch':>9}{'ours':>8} GFLOP/s {'PyTorch':>9}{'ours':>8} ms with gradients"
    )
    for rows, inner, columns in SIZES:
        left, weight, bias = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(columns)
        speeds, steps = [], []
        ways: list[Callable[..., Tensor]] = [linear, multiply]
        for way in ways:
            with torch.inference_mode():
                seconds = best_seconds(partial(way, left, weight, bias))
            speeds.append(2 * rows * inner * columns / seconds / 1e9)
            steps.append(1e3 * best_seconds(partial(step, way, left, weight, bias), 10))
        size = f"{rows} x {inner} x {columns}"
        print(f"{size:<24}{speeds[0]:>9.0f}{speeds[1]:>8.0f}         {steps[0]:>9.1f}{steps[1]:>8.1f}")


def step(way: Callable[..., Tensor], left: Tensor, weight: Tensor, bias: Tensor) -> None:
    """A product and its gradients."""
    inputs = [tensor.detach().requires_grad_() for tensor in (left, weight, bias)]
    torch.autograd.backward(way(*inputs).sum())


def write_model(folder: Path) -> None:
    """A model folder of the tiny shape with random weights."""
    values = make_config("tiny")
    backbone = make_backbone(values, torch.device("cpu"), torch.float32)
    (folder / "config.json").write_text(json.dumps(values))
    make_tokenizer().save(str(folder / "tokenizer.json"))
    save_file(backbone.state_dict(), folder / "model.safetensors")


def embed_pages(model: str, num_pages: int, *, keeps: bool) -> None:
    """Embed a random page again and again in this process, and print pages a second and page faults a page."""
    with nullcontext() if keeps else patch("moca_rag.feed.keep_memory", lambda: False):
        embedder = Embedder.open(model, device="cpu")
    page = torch.randint(0, 256, PAGE, dtype=torch.uint8).numpy()
    next(embedder.encode_pages([page]))
    faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    list(embedder.encode_pages([page] * num_pages))
    seconds = time.perf_counter() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    kept = "memory kept" if keeps else "memory given back"
    print(f"{kept:<20}{num_pages / seconds:6.2f} pages/s, {faults / num_pages:>9,.0f} page faults a page")


def main() -> None:
    """Measure and print; the two processes run this file again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--embed", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.embed:
        embed_pages(options.embed[1], options.pages, keeps=options.embed[0] == "keeping")
        return
    measure_products()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        for way in ("giving", "keeping"):
            pages = str(options.pages)
            subprocess.run([sys.executable, __file__, "--pages", pages, "--embed", way, folder], check=True)


if __name__ == "__main__":
    main()
