"""Measures how fast pages are embedded: the released code's way, transformers padded at its best, ours lever by lever.

    python benchmarks/encode.py PAGES [--shape tiny|3b|7b] [--num-pages 64] [--device cuda] [--rounds 3] [--json FILE]

PAGES is a folder of PDFs or pictures. All rows run in this process on the same random weights and the same pages, drawn
beforehand at the size that the encoder sees. A row's time is the best of its rounds and includes everything from the
drawn page to the embedding; a round goes through all rows, so that a busy moment of the machine strikes each alike.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from peers import BATCH_SIZES, Prepared, embed_padded, list_attentions, prepare, share_weights
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig

from moca_rag import attention, products
from moca_rag.backbone import Backbone
from moca_rag.costs import count_flops
from moca_rag.errors import DocumentError
from moca_rag.feed import Feed
from moca_rag.inputs import SequenceBuilder, TokenSequence
from moca_rag.records import Floats, PixelBudget, Pixels
from moca_rag.render import open_document
from moca_rag.shapes import read_shape

PROMPT = "Represent the given document image."
SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
TRIAL_PAGES = 16  # on which the padded row's batch size is chosen
SPECIAL = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
VISION = ("depth", "hidden_size", "intermediate_size", "num_heads", "fullatt_block_indexes")
SHAPES: dict[str, tuple[tuple[Any, ...], list[int], tuple[Any, ...]]] = {
    "tiny": ((320, 1280, 6, 5, 1, 8192), [8, 12, 12], (6, 192, 512, 3, [2, 5])),
    "3b": ((2048, 11_008, 36, 16, 2, 151_936), [16, 24, 24], (32, 1280, 3420, 16, [7, 15, 23, 31])),
    "7b": ((3584, 18_944, 28, 28, 4, 152_064), [16, 24, 24], (32, 1280, 3420, 16, [7, 15, 23, 31])),
}


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One way to embed the pages: the whole of it, and its preparation alone."""

    name: str
    run: Callable[[], Floats]
    prepare: Callable[[], object]
    dtype: torch.dtype


@dataclass(slots=True)
class Figures:
    """What was measured of a row."""

    name: str
    pages_per_second: float = 0.0
    preparing: float = 0.0
    memory_mb: float = 0.0
    cosine: float = 1.0
    limit: float = 0.0


class Bench:
    """The model, the pages, and all ways through them."""

    def __init__(self, shape: str, device: str, images: list[Pixels]) -> None:
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.images = images
        self.values = make_config(shape)
        self.backbone = make_backbone(self.values, self.device, self.dtype)
        self.builder = SequenceBuilder(make_tokenizer(), self.backbone.shape.tokens, PixelBudget(), 2048)
        sequences = list(self.sequences())
        self.flops = sum(count_flops(self.backbone.shape, len(page.ids), page.grids) for page in sequences)
        self.prepared = [prepare(*pair) for pair in zip(sequences, images, strict=True)]

    def sequences(self) -> Iterator[TokenSequence]:
        """Our own input of each page."""
        return (self.builder.build([image, "\n" + PROMPT]) for image in self.images)

    def stock(self) -> list[Prepared]:
        """Each page through transformers' own processor; token ids cost nothing beside it."""
        return [prepare(*pair) for pair in zip(self.prepared, self.images, strict=True)]

    def rows(self) -> Iterator[Row]:
        """The table's rows, the reference first; peers share the tensors of our model."""
        pad, dtype = self.backbone.shape.tokens.pad, self.dtype
        reference = self.peer(self.backbone, "sdpa")
        name, model, size = self.find_best_padded(pad)
        yield Row(
            "reference: batch 1, sdpa, stock processor",
            lambda: embed_padded(reference, self.stock(), 1, pad),
            self.stock,
            dtype,
        )
        yield Row(
            f"transformers padded, {name}, batch {size}",
            lambda: embed_padded(model, self.stock(), size, pad),
            self.stock,
            dtype,
        )
        yield Row("  + pixels prepared", lambda: embed_padded(model, self.prepared, size, pad), list, dtype)
        plain = self.ours(self.backbone, 1, wide=False, stock=True)
        yield Row("ours: packed, stock processor", plain, self.stock, dtype)
        yield Row("  + lean input", self.ours(self.backbone, 1, wide=False), self.lean, dtype)
        yield from (self.levers_of_gpu if self.device.type == "cuda" else self.levers_of_cpu)()

    def levers_of_gpu(self) -> Iterator[Row]:
        """Full packs, and layers fused by the compiler."""
        budget = Feed(self.backbone, 1).token_budget
        yield Row(f"  + packs of {budget:,} tokens", self.ours(self.backbone, budget), self.lean, self.dtype)
        compiled = make_backbone(self.values, self.device, self.dtype, self.backbone)
        for block in (*compiled.visual.blocks, *compiled.language_model.layers):
            block.compile(dynamic=True)
        yield Row("  + compiled layers", self.ours(compiled, budget), self.lean, self.dtype)

    def levers_of_cpu(self) -> Iterator[Row]:
        """Products that use the whole processor, packs, and bfloat16 beside transformers' own."""
        yield Row("  + wide products", self.ours(self.backbone, 1), self.lean, self.dtype)
        yield Row("  + packs of 4,096 tokens", self.ours(self.backbone, 4096), self.lean, self.dtype)
        half = make_backbone(self.values, self.device, torch.bfloat16, self.backbone)
        model, pad = self.peer(half, "sdpa"), self.backbone.shape.tokens.pad
        prepared = partial(embed_padded, model, self.prepared, 1, pad)
        yield Row("transformers, bfloat16, batch 1, prepared", prepared, list, torch.bfloat16)
        yield Row("ours, bfloat16, page by page", self.ours(half, 1), self.lean, torch.bfloat16)

    def lean(self) -> object:
        """Our own preparation."""
        return list(self.sequences())

    def ours(self, backbone: Backbone, budget: int, *, wide: bool = True, stock: bool = False) -> Callable[[], Floats]:
        """Our encoder from drawn pages to embeddings, with this budget of tokens a pack."""
        feed = Feed(backbone, backbone.shape.text.hidden_size, budget)

        def floats() -> Iterator[TokenSequence]:
            for sequence, page in zip(self.sequences(), self.stock(), strict=True):
                yield TokenSequence(sequence.ids, sequence.positions, page.pixel_values.numpy(), sequence.grids)

        def run() -> Floats:
            with nullcontext() if wide else patch.object(products, "_is_wide", lambda: False):
                return np.concatenate(list(feed.run(floats() if stock else self.sequences())))

        return run

    def peer(self, backbone: Backbone, attention: str) -> Any:
        """The model of transformers with these weights."""
        config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(self.values)))
        return share_weights(backbone, config, attention)

    def find_best_padded(self, pad: int) -> tuple[str, Any, int]:
        """The attention and batch size with which transformers is fastest on a part of the pages."""
        best: tuple[float, str, Any, int] | None = None
        part = self.prepared[:TRIAL_PAGES]
        for name in list_attentions():
            model = self.peer(self.backbone, name)
            for size in BATCH_SIZES:
                try:
                    embed_padded(model, part[:size], size, pad)
                    seconds = min(self.clock(partial(embed_padded, model, part, size, pad)) for _ in range(2))
                except torch.OutOfMemoryError:
                    break
                print(
                    f"  trial: transformers padded, {name}, batch {size}: {len(part) / seconds:.2f} pages/s", flush=True
                )
                if best is None or seconds < best[0]:
                    best = (seconds, name, model, size)
        assert best is not None
        return best[1:]

    def clock(self, run: Callable[[], object]) -> float:
        """Seconds until it is done, on the device too."""
        start = time.perf_counter()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def measure_limit(self, dtype: torch.dtype) -> float:
        """Operations a second of the fastest matrix product in this type."""
        size = 8192 if self.device.type == "cuda" else 2048
        left = torch.randn(size, size, device=self.device).to(dtype)
        ways: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [torch.nn.functional.linear]
        if products.runs_wide(left):
            ways.append(products.multiply)
        with torch.inference_mode():
            seconds = min(self.clock(partial(way, left, left)) for way in ways for _ in range(10))
        return 2 * size**3 / seconds


def make_config(shape: str) -> dict[str, Any]:
    """The values of config.json for a published size or the tiny one."""
    text, sections, vision = SHAPES[shape]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    tokens = dict(zip(("vision_start_token_id", "image_token_id", "vision_end_token_id"), range(3), strict=True))
    ends = {"bos_token_id": 3, "eos_token_id": 3}
    return {
        "model_type": "qwen2_5_vl",
        "text_config": {**ends, **dict(zip(TEXT, text, strict=True)), "rms_norm_eps": 1e-6, "rope_parameters": rope},
        "vision_config": {**dict(zip(VISION, vision, strict=True)), "out_hidden_size": text[0]},
        **tokens,
    }


def make_tokenizer() -> Tokenizer:
    """Words are all one token, as their number alone costs time."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, "[UNK]"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def make_backbone(
    values: dict[str, Any], device: torch.device, dtype: torch.dtype, like: Backbone | None = None
) -> Backbone:
    """A model with random weights, large enough that every layer counts; or one with another's weights."""
    with torch.device("meta"):
        backbone = Backbone(read_shape(Path("config.json"), values)).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    weights = {}
    for name, tensor in backbone.state_dict().items():
        if like is not None:
            weights[name] = like.state_dict()[name].to(dtype)
            continue
        noise = torch.randn(tensor.shape, generator=generator, device=device)
        scale = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
        weights[name] = noise.mul_(scale).add_(float("norm" in name or "ln_q" in name)).to(dtype)
    backbone.load_state_dict(weights, assign=True)
    return backbone


def draw_pages(folder: Path, num_pages: int) -> list[Pixels]:
    """Pages of the folder's documents at the encoder's size: the first of each document, then the second, and so on."""

    def read(turn: int) -> Iterator[Pixels]:
        for path in paths:
            try:
                with closing(open_document(path)) as document:
                    if (
                        turn <= document.info.num_pages
                        and (image := document.read_page(turn, PixelBudget()).image) is not None
                    ):
                        yield image
            except DocumentError:
                continue

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    pages = (
        list(islice((image for turn in range(1, num_pages + 1) for image in read(turn)), num_pages)) if paths else []
    )
    if not pages:
        raise SystemExit(f"{folder} holds no page: give a folder of PDFs or pictures")
    return pages


def peak_memory(device: torch.device, *, reset: bool = False) -> float:
    """Megabytes: of the GPU where there is one, else of this process (Linux)."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def measure(bench: Bench, rounds: int) -> list[Figures]:
    """All rows, round after round; the cosine is the smallest of any page with the reference's embedding."""
    rows = list(bench.rows())
    figures = [Figures(row.name) for row in rows]
    expected = rows[0].run()
    seconds = [float("inf")] * len(rows)
    for turn in range(rounds):
        for index, row in enumerate(rows):
            peak_memory(bench.device, reset=True)
            seconds[index] = min(seconds[index], bench.clock(partial(run_row, row, figures[index], expected)))
            figures[index].memory_mb = peak_memory(bench.device)
            print(f"  round {turn + 1}: {row.name}: {len(expected) / seconds[index]:.2f} pages/s", flush=True)
    for index, row in enumerate(rows):
        figures[index].pages_per_second = len(expected) / seconds[index]
        figures[index].limit = bench.measure_limit(row.dtype)
        figures[index].preparing = min(bench.clock(row.prepare) for _ in range(2)) / seconds[index]
    return figures


def run_row(row: Row, figures: Figures, expected: Floats) -> None:
    """Run a row and keep its cosine."""
    figures.cosine = float((row.run() * expected).sum(axis=1).min())


def print_table(figures: list[Figures], bench: Bench) -> None:
    """One line a row; the ratios are to the first row and to transformers padded with pixels prepared."""
    per_page = bench.flops / len(bench.images)
    print(
        f"\n{len(bench.images)} pages, {per_page / 1e9:,.0f} GFLOP each on average; limit: a matrix product in the row's type"
    )
    print(f"{'':<43} pages/s     x  x padded  of limit (TFLOP/s)  peak MB  preparing   cosine")
    for row in figures:
        speed = row.pages_per_second
        print(
            f"{row.name:<43} {speed:7.2f} {speed / figures[0].pages_per_second:5.2f} "
            f"{speed / figures[2].pages_per_second:9.2f} {speed * per_page / row.limit:9.0%} {row.limit / 1e12:9.2f} "
            f"{row.memory_mb:9,.0f} {row.preparing:10.0%} {row.cosine:8.5f}"
        )


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--num-pages", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench(options.shape, options.device, draw_pages(options.pages, options.num_pages))
    print(f"{options.shape}, {bench.dtype}, {attention.describe_kernel()}, torch {torch.__version__}")
    figures = measure(bench, options.rounds)
    print_table(figures, bench)
    if options.json:
        rows = [asdict(row) for row in figures]
        options.json.write_text(json.dumps({"pages": len(bench.images), "flops": bench.flops, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
