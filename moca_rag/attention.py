"""Lets each sequence of a packed row attend to itself alone: one varlen kernel call on a GPU, few SDPA calls on a CPU."""

import functools
import importlib
import inspect
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .products import multiply, runs_wide

LONG = 512  # tokens, from which SDPA is the slower way on a wide CPU
BLOCK = 512  # queries at once: their scores over a page of 4,000 patches stay in the cache
SHORT, MANY = 256, 8  # tokens, and runs: more short texts of unlike lengths than that learn faster padded
PLAIN = 1024  # tokens, up to which a CPU learns faster through the whole table of scores than through SDPA's backward

Kernel = Callable[[Tensor, Tensor, Tensor, "Segments", bool], Tensor]

_num_calls: ContextVar[list[int] | None] = ContextVar("num_calls", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Where the sequences of a packed row lie: their lengths, known to the host, and boundaries [N + 1] on the device.

    `runs` are neighbours of equal length, as (start, number, length).
    """

    boundaries: Tensor
    longest: int
    runs: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Self:
        """The segments of these lengths, end to end.

        >>> Segments.of([2, 2, 5], torch.device("cpu")).runs
        ((0, 2, 2), (4, 1, 5))
        """
        runs, start = [], 0
        for length, group in groupby(lengths):
            number = len(list(group))
            runs.append((start, number, length))
            start += number * length
        boundaries = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(boundaries, max(lengths), tuple(runs))


@contextmanager
def count_calls() -> Iterator[list[int]]:
    """Counts the attention calls made inside; the one number of the list is right at any time."""
    count = [0]
    token = _num_calls.set(count)
    try:
        yield count
    finally:
        _num_calls.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, causal: bool = False) -> Tensor:
    """Outputs [T, H, D] of query [T, H, D], key and value [T, K, D]; heads share keys where K < H.

    Scores are divided by the root of D. Gradients flow in every kernel.
    """
    if (count := _num_calls.get()) is not None:
        count[0] += 1
    if _runs_on_cpu(query):  # in float32 also for bfloat16: faster there, and more exact
        seen = _attend_in_runs(query.float(), key.float(), value.float(), segments, causal)
        return seen.to(query.dtype)
    kernel = _find_kernel() if _runs_kernel(query) else None
    return (kernel or _attend_in_runs)(query, key, value, segments, causal)


def _attend_in_runs(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool) -> Tensor:
    """Neighbours of equal length go through one batched call: a page's 70 windows cost three calls, not 70."""
    shared = query.shape[1] != key.shape[1]
    if len(segments.runs) > MANY and segments.longest <= SHORT and torch.is_grad_enabled() and _runs_on_cpu(query):
        return _attend_padded(query, key, value, segments, causal)
    outputs: list[Tensor] = []
    # Split once: the gradient of a slice is as large as all that it is cut from.
    sizes = [number * length for _, number, length in segments.runs]
    parts = zip(*(torch.split(tensor, sizes) for tensor in (query, key, value)), strict=True)
    for (_, number, length), part in zip(segments.runs, parts, strict=True):
        q, k, v = (tensor.view(number, length, *tensor.shape[1:]) for tensor in part)
        if length >= LONG and not causal and runs_wide(q[0]) and not torch.is_grad_enabled():
            outputs.extend(_attend_wide(*one) for one in zip(q, k, v, strict=True))
            continue
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        plainly = length <= PLAIN and torch.is_grad_enabled() and _runs_on_cpu(q)
        run: Callable[..., Tensor] = _attend_plainly if plainly else scaled_dot_product_attention
        seen = run(q, k, v, is_causal=causal, enable_gqa=shared)
        outputs.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _attend_padded(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool) -> Tensor:
    """Segments of like lengths together, each filled up to the longest: a hundred short texts are eight calls."""
    starts, lengths = segments.boundaries[:-1].long(), segments.boundaries.diff().long()
    shared = query.shape[1] != key.shape[1]
    places, inside = [], []
    for chosen in torch.tensor_split(lengths.argsort(), MANY):
        steps = torch.arange(int(lengths[chosen].max()), device=query.device)
        inside.append(steps < lengths[chosen, None])
        places.append(torch.where(inside[-1], starts[chosen, None] + steps, starts[chosen, None]))
    every, sizes = torch.cat([rows.flatten() for rows in places]), [rows.numel() for rows in places]
    parts = zip(*(torch.split(tensor.index_select(0, every), sizes) for tensor in (query, key, value)), strict=True)
    seen = []
    for rows, part, own in zip(places, parts, inside, strict=True):
        q, k, v = (tensor.view(*rows.shape, *tensor.shape[1:]).transpose(1, 2) for tensor in part)
        found = _attend_plainly(q, k, v, is_causal=causal, enable_gqa=shared, hidden=~own[:, None, None])
        seen.append(found.transpose(1, 2)[own])
    own_places = torch.cat([rows[own] for rows, own in zip(places, inside, strict=True)])
    return torch.cat(seen).index_select(0, own_places.argsort())


def _attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, enable_gqa: bool, hidden: Tensor | None = None
) -> Tensor:
    """What SDPA computes [B, H, L, D], written out: for short sequences its gradients cost a third of SDPA's on a CPU.

    Keys are not seen where `hidden` [B, 1, 1, L] is True.
    """
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    if is_causal:
        length = scores.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    seen: Tensor = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
    return seen


def _attend_wide(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One sequence, head by head and block by block: two products that `multiply` speeds up, a softmax between them."""
    output = torch.empty_like(query)
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[2] ** -0.5
    for head in range(key.shape[1]):
        keys, values = key[:, head].contiguous(), value[:, head].T.contiguous()
        for member in range(head * groups, (head + 1) * groups):
            for start in range(0, len(query), BLOCK):
                rows = slice(start, start + BLOCK)
                scores = multiply(query[rows, member] * scale, keys)
                output[rows, member] = multiply(scores.softmax(dim=-1), values)
    return output


def _runs_on_cpu(query: Tensor) -> bool:
    return query.device.type == "cpu"


def _runs_kernel(query: Tensor) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and torch.cuda.get_device_capability(query.device) >= (8, 0)


def describe_kernel() -> str:
    """Which attention kernel this machine runs, in words for `moca doctor`."""
    runs = "SDPA, one call for sequences of equal length"
    if not torch.cuda.is_available():
        return f"{runs} (CPU)"
    if torch.cuda.get_device_capability() < (8, 0):
        return f"{runs} (the varlen kernels need a GPU from Ampere on)"
    for name, kernel in KERNELS.items():
        if kernel() is not None:
            return f"varlen, of {name}"
    return f"{runs}: neither flash-attn nor a torch with varlen_attn is installed"


@functools.cache
def _find_kernel() -> Kernel | None:
    """The best varlen kernel that is installed."""
    return next((found for kernel in KERNELS.values() if (found := kernel()) is not None), None)


def _flash_kernel(module: str) -> Kernel | None:
    """`flash_attn_varlen_func` of a flash-attn package: its third and second version give it the same way."""
    try:
        flash = importlib.import_module(module).flash_attn_varlen_func
    except (ImportError, AttributeError):  # not installed, or built for another torch
        return None

    def run(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool) -> Tensor:
        cuts, longest = segments.boundaries, segments.longest
        found = flash(query, key, value, cuts, cuts, longest, longest, causal=causal)
        output: Tensor = found[0] if isinstance(found, tuple) else found  # early third versions add the log-sums
        return output

    return run


def _torch_kernel() -> Kernel | None:
    """`torch.nn.attention.varlen.varlen_attn`, whose arguments differ from one torch to the next."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    kernel: Callable[..., Any] = varlen_attn
    known = inspect.signature(varlen_attn).parameters

    def run(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool) -> Tensor:
        options = kernel_options(known, causal)
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and "enable_gqa" in known:
            options["enable_gqa"] = True
        elif groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        cuts, longest = segments.boundaries, segments.longest
        output: Tensor = kernel(query, key, value, cuts, cuts, longest, longest, **options)
        return output

    return run


def kernel_options(known: Container[str], causal: bool) -> dict[str, Any]:
    """The arguments that say the direction to a `varlen_attn` that knows the names in `known`.

    >>> kernel_options({"window_size", "scale"}, False), kernel_options({"is_causal"}, False)
    ({'window_size': (-1, -1)}, {'is_causal': False})
    """
    if "window_size" in known:
        return {"window_size": (-1, 0) if causal else (-1, -1)}
    return {"is_causal": causal}


KERNELS: dict[str, Callable[[], Kernel | None]] = {
    "flash-attn 3": functools.partial(_flash_kernel, "flash_attn_interface"),
    "flash-attn 2": functools.partial(_flash_kernel, "flash_attn"),
    "torch": _torch_kernel,
}
