"""Packed attention against one sequence at a time."""

import functools
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.utils.generic import is_flash_attention_requested

from moca_rag import attention
from moca_rag.attention import PACKED_ATTENTION, count_calls, packed_attention, segment_attention

LENGTHS = (5, 1, 7, 5, 3, 5)


def packed(heads: int, kv_heads: int, size: int = 8, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(sum(LENGTHS), h, size, generator=generator) for h in (heads, kv_heads, kv_heads))
    boundaries = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    moved = [tensor.to(**options) if options else tensor for tensor in (query, key, value)]
    return moved[0], moved[1], moved[2], boundaries.to(moved[0].device)


def one_by_one(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    outputs = []
    for q, k, v in zip(*(tensor.split(LENGTHS) for tensor in (query, key, value)), strict=True):
        weights = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(q.shape[1] // k.shape[1], 1)) * scale
        if causal:
            weights = weights.masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -torch.inf)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights.softmax(-1), v))
    return torch.cat(outputs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_packed_sequences_attend_as_if_alone(heads: int, kv_heads: int, causal: bool) -> None:
    query, key, value, boundaries = packed(heads, kv_heads)
    output = segment_attention(query, key, value, boundaries, max(LENGTHS), 0.3, causal)
    torch.testing.assert_close(output, one_by_one(query, key, value, 0.3, causal), atol=1e-6, rtol=0)


def test_a_neighbour_moves_nothing() -> None:
    query, key, value, boundaries = packed(4, 2)
    before = segment_attention(query, key, value, boundaries, max(LENGTHS), 0.3)
    key[6:13], value[6:13] = 100.0, -100.0
    after = segment_attention(query, key, value, boundaries, max(LENGTHS), 0.3)
    assert torch.equal(before[:6], after[:6])
    assert torch.equal(before[13:], after[13:])
    assert not torch.equal(before[6:13], after[6:13])


def test_segments_of_equal_length_go_through_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def counted(query: Tensor, *rest: Any, **options: Any) -> Tensor:
        calls.append(query.shape)
        return scaled_dot_product_attention(query, *rest, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", counted)
    query, key, value, boundaries = packed(4, 2)
    segment_attention(query, key, value, boundaries, max(LENGTHS), 0.3)
    assert sorted(shape[0] for shape in calls) == [1, 1, 1, 3]


def call(config: Any, **options: Any) -> Tensor:
    query, key, value, boundaries = packed(4, 2)
    rows = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    options = {"cu_seq_lens_q": boundaries, "attention_mask": None, **options}
    module: Any = SimpleNamespace(config=config)
    return packed_attention(module, *rows, scaling=0.3, dropout=0.0, sliding_window=None, **options)[0][0]


def test_the_config_of_the_layer_decides_the_direction_unless_the_call_does() -> None:
    query, key, value, _ = packed(4, 2)
    both = one_by_one(query, key, value, 0.3, causal=False)
    back = one_by_one(query, key, value, 0.3, causal=True)
    torch.testing.assert_close(call(SimpleNamespace(is_causal=False)), both, atol=1e-6, rtol=0)
    torch.testing.assert_close(call(SimpleNamespace()), back, atol=1e-6, rtol=0)
    torch.testing.assert_close(call(SimpleNamespace(), is_causal=False), both, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{"cu_seq_lens_q": None}, {"attention_mask": torch.ones(1, 1, 26, 26)}])
def test_a_call_without_boundaries_or_with_a_mask_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="boundaries"):
        call(SimpleNamespace(is_causal=False), **options)


def test_calls_are_counted_inside_the_block_only() -> None:
    config = SimpleNamespace(is_causal=False)
    call(config)
    with count_calls() as count:
        call(config)
        call(config)
    call(config)
    assert count == [2]


def test_transformers_takes_the_name_for_a_flash_kernel() -> None:
    assert is_flash_attention_requested(requested_attention_implementation=PACKED_ATTENTION)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the varlen kernels run on a GPU only")
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_agrees_with_one_sequence_at_a_time(causal: bool) -> None:
    query, key, value, boundaries = packed(4, 2, size=64, device="cuda", dtype=torch.bfloat16)
    output = segment_attention(query, key, value, boundaries, max(LENGTHS), 0.125, causal)
    expected = one_by_one(*(tensor.float().cpu() for tensor in (query, key, value)), 0.125, causal)
    torch.testing.assert_close(output.float().cpu(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("names", ["is_causal", "is_causal scale", "scale window_size", "scale window_size enable_gqa"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_known_signature_of_the_kernel_gets_what_it_can_take(
    names: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = names.split()

    def kernel(
        q: Tensor, k: Tensor, v: Tensor, cuts: Tensor, _: Tensor, longest: int, __: int, **options: Any
    ) -> Tensor:
        assert set(options) <= set(known)
        assert longest == max(LENGTHS)
        assert options.get("enable_gqa", False) or q.shape == k.shape
        backward = options.get("is_causal", options.get("window_size") == (-1, 0))
        return one_by_one(q, k, v, options.get("scale", q.shape[-1] ** -0.5), backward)

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in known]
    monkeypatch.setattr(kernel, "__signature__", inspect.Signature(parameters), raising=False)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    monkeypatch.setattr(attention, "_find_kernel", functools.cache(attention._torch_kernel))
    monkeypatch.setattr(attention, "_runs_kernel", lambda _: True)
    query, key, value, boundaries = packed(4, 2)
    scale = 0.7 if "scale" in known else 8**-0.5
    output = segment_attention(query, key, value, boundaries, max(LENGTHS), scale, causal)
    torch.testing.assert_close(output, one_by_one(query, key, value, scale, causal), atol=1e-6, rtol=0)


def test_a_kernel_that_cannot_scale_refuses_an_unusual_scale() -> None:
    with pytest.raises(ValueError, match="cannot scale"):
        attention.kernel_options({"is_causal"}, False, 0.3, 16)
