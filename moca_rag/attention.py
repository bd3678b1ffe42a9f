"""Turns packed queries, keys and values into attention outputs, each sequence seeing only itself.

transformers asks for attention by name. A name with `flash` in it makes Qwen2.5-VL hand over the boundaries of all
segments in one call a layer, in its vision tower (windows) as in its text layers (sequences); under any other name
the vision tower makes one call a window.
"""

import functools
import importlib.util
import inspect
import math
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED_ATTENTION = "moca_packed_flash"

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int, float, bool], Tensor]

_num_calls: ContextVar[list[int] | None] = ContextVar("num_calls", default=None)


@contextmanager
def count_calls() -> Iterator[list[int]]:
    """Counts the attention calls made inside; the one number of the list is right at any time."""
    count = [0]
    token = _num_calls.set(count)
    try:
        yield count
    finally:
        _num_calls.reset(token)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    is_causal: bool | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Outputs [1, T, H, D] for query [1, H, T, D], key and value [1, K, T, D], cut at `cu_seq_lens_q` [N + 1].

    Without `is_causal` the module's config decides (`config.is_causal`, true where it says nothing). Raises
    ValueError on a call without boundaries: it would let every sequence see every other one.
    """
    if cu_seq_lens_q is None or attention_mask is not None or len(query) != 1:
        raise ValueError("packed attention needs one row, no mask, and the boundaries of its sequences")
    if (count := _num_calls.get()) is not None:
        count[0] += 1
    causal = getattr(module.config, "is_causal", True) if is_causal is None else is_causal
    longest = max_length_q or int(cu_seq_lens_q.diff().max())
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return segment_attention(query, key, value, cu_seq_lens_q, longest, scaling, bool(causal))[None], None


def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor, longest: int, scale: float, causal: bool = False
) -> Tensor:
    """Outputs [T, H, D] of query [T, H, D], key and value [T, K, D], where segments lie between `boundaries`."""
    kernel = _find_kernel() if _runs_kernel(query) else None
    attend = _attend_by_length if kernel is None else kernel
    return attend(query, key, value, boundaries, longest, scale, causal)


def _attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor, longest: int, scale: float, causal: bool
) -> Tensor:
    """Segments of equal length go through one batched call: a page's 70 windows cost a few calls, not 70."""
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) if groups > 1 else tensor for tensor in (key, value))
    output = torch.empty_like(query)
    lengths = boundaries.diff()
    for length in torch.unique(lengths).tolist():
        starts = boundaries[:-1][lengths == length]
        rows = (starts[:, None] + torch.arange(length, device=starts.device)).long()
        q, k, v = (tensor[rows].transpose(1, 2) for tensor in (query, key, value))
        output[rows] = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale).transpose(1, 2)
    return output


def _runs_kernel(query: Tensor) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and torch.cuda.get_device_capability(query.device) >= (8, 0)


def describe_kernel() -> str:
    """Which attention kernel this machine runs, in words for `moca doctor`."""
    if not torch.cuda.is_available():
        return "one SDPA call a length of sequence (CPU)"
    if _find_kernel() is None:
        return "one SDPA call a length of sequence: neither flash-attn nor a torch with varlen_attn"
    return "varlen, of the flash-attn package" if importlib.util.find_spec("flash_attn") else "varlen, of torch"


@functools.cache
def _find_kernel() -> Kernel | None:
    """The varlen kernel of the flash-attn package where it is installed, else torch's own, else none."""
    if importlib.util.find_spec("flash_attn") is None:
        return _torch_kernel()
    flash = importlib.import_module("flash_attn").flash_attn_varlen_func

    def attend(q: Tensor, k: Tensor, v: Tensor, cuts: Tensor, longest: int, scale: float, causal: bool) -> Tensor:
        output: Tensor = flash(q, k, v, cuts, cuts, longest, longest, softmax_scale=scale, causal=causal)
        return output

    return attend


def _torch_kernel() -> Kernel | None:
    """`torch.nn.attention.varlen.varlen_attn`, whose arguments differ from one torch to the next."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    kernel: Callable[..., Any] = varlen_attn
    known = inspect.signature(varlen_attn).parameters

    def attend(q: Tensor, k: Tensor, v: Tensor, cuts: Tensor, longest: int, scale: float, causal: bool) -> Tensor:
        options = kernel_options(known, causal, scale, q.shape[-1])
        groups = q.shape[1] // k.shape[1]
        if groups > 1 and "enable_gqa" in known:
            options["enable_gqa"] = True
        elif groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        output: Tensor = kernel(q, k, v, cuts, cuts, longest, longest, **options)
        return output

    return attend


def kernel_options(known: Container[str], causal: bool, scale: float, head_size: int) -> dict[str, Any]:
    """The arguments that say direction and scale to a `varlen_attn` that knows the names in `known`.

    >>> kernel_options({"window_size", "scale"}, False, 0.25, 16)
    {'window_size': (-1, -1), 'scale': 0.25}
    >>> kernel_options({"is_causal"}, False, 0.25, 16)
    {'is_causal': False}
    """
    options: dict[str, Any] = {"is_causal": causal}
    if "window_size" in known:
        options = {"window_size": (-1, 0) if causal else (-1, -1)}
    if "scale" in known:
        options["scale"] = scale
    elif not math.isclose(scale, head_size**-0.5):
        raise ValueError(f"this torch cannot scale attention by {scale}: install a later one")
    return options


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
