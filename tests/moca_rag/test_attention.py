"""Packed attention against one sequence at a time."""

import functools
import inspect
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from moca_rag import attention
from moca_rag.attention import Segments, attend, count_calls, describe_kernel

CPU = torch.device("cpu")
LENGTHS = (5, 5, 1, 7, 3, 5)
SEGMENTS = Segments.of(LENGTHS, CPU)


def packed(heads: int, kv_heads: int, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(sum(LENGTHS), h, size, generator=generator) for h in (heads, kv_heads, kv_heads))
    return query, key, value


def one_by_one(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    outputs = []
    for q, k, v in zip(*(tensor.split(LENGTHS) for tensor in (query, key, value)), strict=True):
        weights = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(q.shape[1] // k.shape[1], 1))
        weights = weights * query.shape[-1] ** -0.5
        if causal:
            weights = weights.masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -torch.inf)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights.softmax(-1), v))
    return torch.cat(outputs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_packed_sequences_attend_as_if_alone(heads: int, kv_heads: int, causal: bool) -> None:
    tensors = packed(heads, kv_heads)
    output = attend(*tensors, SEGMENTS, causal=causal)
    torch.testing.assert_close(output, one_by_one(*tensors, causal), atol=1e-6, rtol=0)


def test_gradients_are_those_of_one_sequence_at_a_time() -> None:
    gradients = []
    for run in (lambda *tensors: attend(*tensors, SEGMENTS), lambda *tensors: one_by_one(*tensors, causal=False)):
        tensors = [tensor.requires_grad_() for tensor in packed(4, 2)]
        run(*tensors).square().sum().backward()
        gradients.append([tensor.grad for tensor in tensors])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_short_texts_learn_padded_what_they_learn_alone(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MANY", 2)
    calls: list[int] = []
    real = attention._attend_padded
    monkeypatch.setattr(attention, "_attend_padded", lambda *given: calls.append(1) or real(*given))
    found = []
    for run in (
        lambda *tensors: attend(*tensors, SEGMENTS, causal=causal),
        functools.partial(one_by_one, causal=causal),
    ):
        tensors = [tensor.requires_grad_() for tensor in packed(4, 2)]
        output = run(*tensors)
        output.square().sum().backward()
        found.append([output.detach(), *(tensor.grad for tensor in tensors)])
    assert calls
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_a_neighbour_moves_nothing() -> None:
    query, key, value = packed(4, 2)
    before = attend(query, key, value, SEGMENTS)
    key[11:18], value[11:18] = 100.0, -100.0
    after = attend(query, key, value, SEGMENTS)
    assert torch.equal(before[:11], after[:11])
    assert torch.equal(before[18:], after[18:])
    assert not torch.equal(before[11:18], after[11:18])


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 2)])
def test_long_sequences_attend_head_by_head_on_a_wide_cpu(
    heads: int, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    wide = attention._attend_wide
    monkeypatch.setattr(attention, "runs_wide", lambda _: True)
    monkeypatch.setattr(attention, "LONG", 5)
    monkeypatch.setattr(attention, "BLOCK", 3)
    monkeypatch.setattr(attention, "_attend_wide", lambda q, k, v: used.append(len(q)) or wide(q, k, v))
    tensors = packed(heads, kv_heads)
    with torch.no_grad():
        output = attend(*tensors, SEGMENTS)
    torch.testing.assert_close(output, one_by_one(*tensors, causal=False), atol=1e-6, rtol=0)
    assert used == [5, 5, 7, 5]
    attend(*tensors, SEGMENTS, causal=True)
    attend(*(tensor.requires_grad_() for tensor in tensors), SEGMENTS)
    assert len(used) == 4


def test_a_cpu_attends_in_float32_whatever_it_is_given() -> None:
    tensors = [tensor.bfloat16() for tensor in packed(4, 2)]
    output = attend(*tensors, SEGMENTS)
    exact = one_by_one(*(tensor.float() for tensor in tensors), causal=False)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact.bfloat16()) or (output.float() - exact).abs().max() < 2**-8


@pytest.mark.parametrize(("way", "learns"), [("scaled_dot_product_attention", False), ("_attend_plainly", True)])
def test_neighbours_of_equal_length_go_through_one_call(
    way: str, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []
    run = getattr(attention, way)

    def counted(query: Tensor, *rest: Any, **options: Any) -> Tensor:
        calls.append(query.shape)
        return run(query, *rest, **options)

    monkeypatch.setattr(attention, way, counted)
    with torch.set_grad_enabled(learns):
        attend(*packed(4, 2), SEGMENTS)
    assert [shape[0] for shape in calls] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("causal", [False, True])
def test_short_and_long_sequences_have_the_same_gradients(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for longest in (1024, 0):
        monkeypatch.setattr(attention, "PLAIN", longest)
        tensors = [tensor.requires_grad_() for tensor in packed(4, 2)]
        attend(*tensors, SEGMENTS, causal=causal).square().sum().backward()
        found.append([tensor.grad for tensor in tensors])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


def test_segments_know_their_boundaries_and_the_longest() -> None:
    assert SEGMENTS.boundaries.tolist() == [0, 5, 10, 11, 18, 21, 26]
    assert SEGMENTS.boundaries.dtype == torch.int32
    assert SEGMENTS.longest == 7


def test_calls_are_counted_inside_the_block_only() -> None:
    tensors = packed(4, 2)
    attend(*tensors, SEGMENTS)
    with count_calls() as count:
        attend(*tensors, SEGMENTS)
        attend(*tensors, SEGMENTS)
    attend(*tensors, SEGMENTS)
    assert count == [2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the varlen kernels run on a GPU only")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [16, 64, 80, 128])
@pytest.mark.parametrize("name", list(attention.KERNELS))
def test_each_kernel_agrees_with_one_sequence_at_a_time(name: str, size: int, causal: bool) -> None:
    kernel = attention.KERNELS[name]()
    if kernel is None:
        pytest.skip(f"{name} is not installed")
    query, key, value = (tensor.to("cuda", torch.bfloat16) for tensor in packed(4, 2, size))
    output = kernel(query, key, value, Segments.of(LENGTHS, query.device), causal)
    expected = one_by_one(*(tensor.float().cpu() for tensor in (query, key, value)), causal)
    torch.testing.assert_close(output.float().cpu(), expected, atol=2e-2, rtol=2e-2)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The kernels are looked for as on a GPU; what they find is up to the test."""
    monkeypatch.setattr(attention, "_find_kernel", functools.cache(attention._find_kernel.__wrapped__))
    monkeypatch.setattr(attention, "_runs_kernel", lambda _: True)
    monkeypatch.setattr(attention, "_runs_on_cpu", lambda _: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    return monkeypatch


@pytest.mark.parametrize("names", ["is_causal", "is_causal scale", "scale window_size", "scale window_size enable_gqa"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_known_signature_of_torchs_kernel_gets_what_it_can_take(
    names: str, causal: bool, on_a_gpu: pytest.MonkeyPatch
) -> None:
    known = names.split()

    def kernel(
        q: Tensor, k: Tensor, v: Tensor, cuts: Tensor, _: Tensor, longest: int, __: int, **options: Any
    ) -> Tensor:
        assert set(options) <= set(known)
        assert longest == max(LENGTHS)
        assert options.get("enable_gqa", False) or q.shape == k.shape
        return one_by_one(q, k, v, options.get("is_causal", options.get("window_size") == (-1, 0)))

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in known]
    on_a_gpu.setattr(kernel, "__signature__", inspect.Signature(parameters), raising=False)
    on_a_gpu.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    tensors = packed(4, 2)
    output = attend(*tensors, SEGMENTS, causal=causal)
    torch.testing.assert_close(output, one_by_one(*tensors, causal), atol=1e-6, rtol=0)
    assert describe_kernel() == "varlen, of torch"


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        (("flash_attn",), "flash-attn 2"),
        (("flash_attn_interface",), "flash-attn 3"),
        (("flash_attn", "flash_attn_interface"), "flash-attn 3"),
    ],
)
@pytest.mark.parametrize("with_sums", [False, True])
def test_the_newest_flash_package_that_is_installed_is_taken(
    modules: tuple[str, ...], name: str, with_sums: bool, on_a_gpu: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    def install(module: str) -> None:
        def run(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, m: int, n: int, causal: bool = False) -> Any:
            used.append(module)
            output = one_by_one(q, k, v, causal)
            return (output, output[..., 0]) if with_sums else output

        package = ModuleType(module)
        package.flash_attn_varlen_func = run  # type: ignore[attr-defined]
        on_a_gpu.setitem(sys.modules, module, package)

    for module in modules:
        install(module)
    tensors = packed(4, 2)
    torch.testing.assert_close(attend(*tensors, SEGMENTS), one_by_one(*tensors, causal=False), atol=1e-6, rtol=0)
    assert describe_kernel() == f"varlen, of {name}"
    assert set(used) == {modules[-1]}


def test_a_flash_package_that_cannot_be_imported_leaves_torchs_kernel(on_a_gpu: pytest.MonkeyPatch) -> None:
    on_a_gpu.setitem(sys.modules, "flash_attn", None)
    on_a_gpu.setitem(sys.modules, "flash_attn_interface", ModuleType("flash_attn_interface"))
    assert describe_kernel() == "varlen, of torch"


def test_what_runs_without_a_kernel_is_said_with_the_reason(on_a_gpu: pytest.MonkeyPatch) -> None:
    on_a_gpu.setattr(attention, "KERNELS", {})
    assert "neither flash-attn nor" in describe_kernel()
    on_a_gpu.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    assert "from Ampere on" in describe_kernel()
    on_a_gpu.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_kernel() == "SDPA, one call for sequences of equal length (CPU)"
