"""Measures how fast both stages learn: ours beside transformers padded at its best batch size, on the same rows.

    python benchmarks/train.py [--shape tiny|3b|7b] [--num-rows 6] [--num-pairs 4] [--pack-cost 4096] [--rounds 2]
                                  [--half] [--recompute] [--device cuda] [--json FILE]

Weights are random and rows are drawn in memory: a third texts, the rest pages of 256 to 1,024 visual tokens with a text.
A step is forward, backward and AdamW over all rows, prepared beforehand as the loop does it; its time is the best of the
rounds. Both ways hold float32 weights and compute in bfloat16 on a GPU, or on a CPU with --half. The limit is a matrix
product in that type.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encode import SHAPES, make_backbone, make_config, make_tokenizer, peak_memory
from moca_rag.train.cl import ContrastiveModel, cut_chunks
from moca_rag.train.contrast import info_nce
from moca_rag.train.corruption import CorruptedRow, MaskRates, corrupt_row
from moca_rag.train.gradcache import grad_cache
from moca_rag.train.optimizer import Optimizer
from moca_rag.train.packing import plan_packs, price_row
from moca_rag.train.ranks import Ranks, join_ranks, leave_ranks, shard
from moca_rag.train.reconstruction import CorruptedPack, Objective, Reconstruction, count_values
from moca_rag.train.settings import RunSettings
from moca_rag.train.stage import compute_half, list_layers
from padded import PaddedTraining
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2_5_VLConfig

from moca_rag import attention, products
from moca_rag.backbone import Backbone
from moca_rag.costs import count_flops
from moca_rag.inputs import SequenceBuilder, TokenSequence
from moca_rag.memory import keep_memory
from moca_rag.records import PixelBudget
from moca_rag.shapes import ModelShape, VisionTokens

BATCH_SIZES = (1, 2, 4, 8)
VISUAL_TOKENS = (256, 512, 1024)
QUERY_TOKENS = 24
MAX_TOKENS = 2048
BLOCK = 28  # a visual token's side in pixels
MASK, WORDS = 4, 5  # the mask's id, and the first of those that stand for words


@dataclass(slots=True)
class Figures:
    """What was measured of one way: tokens or pairs a second, the share of the limit, and its first loss."""

    name: str
    speed: float
    share: float
    teraflops: float
    memory_mb: float
    loss: float


class Bench:
    """The shape, the rows, and the clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ranks: Ranks = join_ranks(options.device)
        self.device = self.ranks.device
        self.values = make_config(options.shape)
        self.settings = RunSettings(half=options.half)
        self.dtype = torch.bfloat16 if options.half or self.device.type == "cuda" else torch.float32
        self.generator = np.random.default_rng(0)
        if self.device.type == "cpu":
            keep_memory(all_of_it=True)
        self.limit = measure_limit(self.device, self.dtype)

    def make_backbone(self) -> Backbone:
        """Always the same random weights, all of them to be trained."""
        backbone = make_backbone(self.values, self.device, torch.float32).requires_grad_().train()
        if self.options.recompute:
            for layer in list_layers(backbone):
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        return backbone

    def measure(self, name: str, step: Callable[[], float], number: int, flops: int) -> Figures:
        """The best of the rounds after a first step that warms up; `number` of tokens or pairs are worked through."""
        loss = step()
        peak_memory(self.device, reset=True)
        seconds = min(clock(step, self.device) for _ in range(self.options.rounds))
        speed = 3 * flops / seconds  # a backward pass is worth two forward ones
        memory = peak_memory(self.device)
        return Figures(name, number / seconds, speed / self.limit, speed / 1e12, memory, loss)


# -- rows -------------------------------------------------------------------------------------------------------------


def draw_sequence(
    tokens: VisionTokens, vocab_size: int, num_visual: int, num_words: int, generator: np.random.Generator
) -> TokenSequence:
    """A page of noise with about so many visual tokens, upright as paper is, and then random words; or words alone."""
    builder = SequenceBuilder(make_tokenizer(), tokens, PixelBudget(), MAX_TOKENS, tells=False)
    width = round((num_visual / 1.4) ** 0.5)
    size = (num_visual // max(width, 1) * BLOCK, width * BLOCK, 3)
    page = [generator.integers(256, size=size, dtype=np.uint8)] if num_visual else []
    sequence = builder.build([*page, "word " * num_words])
    words = generator.integers(WORDS, vocab_size, len(sequence.ids))
    special = np.isin(sequence.ids, [tokens.start, tokens.pad, tokens.end])
    return replace(sequence, ids=np.where(special, sequence.ids, words))


def draw_rows(shape: ModelShape, num_rows: int, generator: np.random.Generator) -> list[CorruptedRow]:
    """Every third row a text of lognormal length, the others pages; corrupted as the paper does for 3B."""
    tokens = shape.tokens
    rows = []
    for number in range(num_rows):
        is_text = number % 3 == 0
        num_visual = 0 if is_text else int(generator.integers(256, 1025))
        num_words = int(generator.lognormal(np.log(400 if is_text else 120), 0.8))
        sequence = draw_sequence(tokens, shape.text.vocab_size, num_visual, 8 + num_words, generator)
        kept = {tokens.start, tokens.pad, tokens.end, MASK}
        rows.append(corrupt_row(sequence, str(number), MaskRates(), MASK, kept, 0, 0))
    return rows


def count_work(shape: ModelShape, sequences: Sequence[TokenSequence]) -> int:
    """Operations of one forward pass over the sequences."""
    return sum(count_flops(shape, len(sequence.ids), sequence.grids) for sequence in sequences)


# -- stage one --------------------------------------------------------------------------------------------------------


def measure_pretraining(bench: Bench) -> list[Figures]:
    """Ours, then the obvious way at the batch size with which it is fastest."""
    backbone = bench.make_backbone()
    shape = backbone.shape
    rows = draw_rows(shape, bench.options.num_rows, bench.generator)
    sequences = [row.sequence for row in rows]
    number, flops = sum(len(sequence.ids) for sequence in sequences), count_work(shape, sequences)
    step = make_packed_step(bench, backbone, rows)
    figures = [bench.measure(f"ours: packs of {bench.options.pack_cost:,.0f}", step, number, flops)]
    del backbone, step
    gc.collect()
    config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(bench.values)))
    fresh, half = make_backbone(bench.values, bench.device, torch.float32), bench.dtype == torch.bfloat16
    peer = PaddedTraining(fresh, config, rows, recompute=bench.options.recompute, half=half)
    for size in (size for size in BATCH_SIZES if size < 2 * len(rows)):
        peer.lay_out(size)
        try:
            figures.append(bench.measure(f"transformers padded, sdpa, batch {size}", peer.step, number, flops))
        except torch.OutOfMemoryError:
            break
    print(f"\nCPT: {len(rows)} rows, {number:,} tokens, {flops * 3 / 1e12:.1f} TFLOP a step")
    print_table(figures, "tokens/s", max(row.speed for row in figures[1:]))
    return figures


def make_packed_step(bench: Bench, backbone: Backbone, rows: Sequence[CorruptedRow]) -> Callable[[], float]:
    """Our step of stage one, over packs made beforehand."""
    module = Reconstruction(backbone, None, Objective()).to(bench.device).requires_grad_().train()
    compute_half(module, bench.settings, bench.ranks)
    shard(module, list_layers(backbone), bench.ranks)
    optimizer = Optimizer(module, RunSettings())
    costs = [price_row(backbone.shape, len(row.sequence.ids), row.sequence.grids) for row in rows]
    (plan,) = plan_packs(costs, 1, bench.options.pack_cost)
    packs = [CorruptedPack.of([rows[place] for place in pack]) for pack in plan]
    num_masked, num_values = sum(len(row.masked) for row in rows), count_values(rows)

    def step() -> float:
        optimizer.clear()
        mlm = 0.0
        for pack in packs:
            losses = module(pack)
            torch.autograd.backward(module.total(losses, num_masked, num_values))
            mlm += losses.mlm.item() / num_masked
        update(module, optimizer)
        return mlm

    return step


def update(module: nn.Module, optimizer: Optimizer) -> None:
    """Clip and descend."""
    nn.utils.clip_grad_norm_(module.parameters(), RunSettings().clip)
    optimizer.step(RunSettings().learning_rate)


# -- stage two --------------------------------------------------------------------------------------------------------


def measure_contrast(bench: Bench) -> list[Figures]:
    """Pairs of a short query and a page, by the page's size, through GradCache."""
    backbone = bench.make_backbone()
    shape = backbone.shape
    model = ContrastiveModel(backbone, None)
    compute_half(model, bench.settings, bench.ranks)
    shard(model, list_layers(backbone), bench.ranks)
    optimizer = Optimizer(model, RunSettings())
    number, vocab_size = bench.options.num_pairs, shape.text.vocab_size
    figures, per_pair = [], []
    for num_visual in VISUAL_TOKENS:
        draw = partial(draw_sequence, shape.tokens, vocab_size, generator=bench.generator)
        pages = [draw(num_visual, 8) for _ in range(number)]
        sequences = [draw(0, QUERY_TOKENS) for _ in range(number)] + pages
        flops = count_work(shape, sequences)
        step = partial(contrast, model, optimizer, cut_chunks(sequences, bench.options.chunk_tokens), number)
        size = int(np.mean([len(page.patches) // 4 for page in pages]))
        figures.append(bench.measure(f"ours: pages of {size:,} visual tokens", step, number, flops))
        per_pair.append(3 * flops / number)
    print(f"\nCL: {number} pairs a step, chunks of {bench.options.chunk_tokens:,} tokens (GradCache: forward twice)")
    limits = ", ".join(f"{bench.limit / work:,.1f}" for work in per_pair)
    print_table(figures, "pairs/s", figures[0].speed)
    print(f"pairs/s at the limit, forward once: {limits}")
    return figures


def contrast(
    model: ContrastiveModel,
    optimizer: Optimizer,
    chunks: Sequence[tuple[TokenSequence, ...]],
    number: int,
) -> float:
    """One step of stage two; the loss."""

    def loss(embeddings: Tensor) -> Tensor:
        value: Tensor = info_nce(
            embeddings[:number], embeddings[number:], torch.arange(number, device=embeddings.device)
        )
        return value

    optimizer.clear()
    value = grad_cache(model, chunks, loss)
    update(model, optimizer)
    return float(value)


# -- the tables -------------------------------------------------------------------------------------------------------


def clock(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds until it is done, on the device too."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_limit(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the library's own matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    square = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / min(clock(partial(products.linear, square, square), device) for _ in range(10))


def print_table(figures: Sequence[Figures], unit: str, base: float) -> None:
    """One line a way; `base` is the speed that counts as 1."""
    print(f"{'':<38} {unit:>9}      x  of limit  TFLOP/s  peak MB  first loss")
    for row in figures:
        print(
            f"{row.name:<38} {row.speed:9,.1f} {row.speed / base:6.2f} {row.share:9.0%} {row.teraflops:8.2f} "
            f"{row.memory_mb:8,.0f} {row.loss:11.5f}"
        )


def main() -> None:
    """Read the command line, measure, print."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--num-rows", type=int, default=64 if has_gpu else 6)
    parser.add_argument("--num-pairs", type=int, default=64 if has_gpu else 4)
    parser.add_argument("--pack-cost", type=float, default=12_800 if has_gpu else 4096)
    parser.add_argument("--chunk-tokens", type=int, default=16_384 if has_gpu else 4096)
    parser.add_argument("--half", action="store_true", help="products in bfloat16 on a CPU, too, in both ways")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing, in both ways")
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench(options)
    print(f"{options.shape}, {bench.dtype}, {attention.describe_kernel()}, torch {torch.__version__}")
    print(f"limit: {bench.limit / 1e12:.2f} TFLOP/s")
    tables = {"cpt": measure_pretraining(bench), "cl": measure_contrast(bench)}
    if options.json:
        values = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
        options.json.write_text(json.dumps({"limit": bench.limit, **values}, indent=1))
    leave_ranks()


if __name__ == "__main__":
    main()
