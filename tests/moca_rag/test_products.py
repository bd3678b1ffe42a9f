"""The detour over a convolution is the plain product, forwards and backwards."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moca_rag import products
from moca_rag.products import Linear, linear, multiply, runs_wide


def make(rows: int, inner: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(rows, inner, generator=generator),
        torch.randn(columns, inner, generator=generator),
        torch.randn(columns, generator=generator),
    )


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 7), (300, 64, 48), (1000, 192, 576)])
def test_a_convolution_is_the_product(sizes: tuple[int, int, int]) -> None:
    rows, weight, bias = make(*sizes)
    output = multiply(rows, weight, bias)
    torch.testing.assert_close(output, functional.linear(rows, weight, bias), atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(multiply(rows, weight), functional.linear(rows, weight), atol=2e-4, rtol=1e-5)
    assert output.is_contiguous()


def test_rows_that_are_a_view_are_multiplied_as_they_are() -> None:
    rows, weight, bias = make(300, 3 * 64, 48)
    part = rows.view(300, 3, 64)[:, 1]
    expected = functional.linear(part, weight[:, 64:128], bias)
    torch.testing.assert_close(multiply(part, weight[:, 64:128], bias), expected, atol=1e-4, rtol=1e-5)


def test_gradients_are_the_products() -> None:
    gradients = []
    for run in (multiply, functional.linear):
        tensors = [tensor.requires_grad_() for tensor in make(300, 64, 48)]
        run(*tensors).square().mean().backward()
        gradients.append([tensor.grad for tensor in tensors])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_few_rows_other_types_and_narrow_cpus_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_wide", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    rows, weight, bias = make(300, 64, 48)
    assert runs_wide(rows)
    assert not runs_wide(rows[: products.MIN_ROWS - 1])
    assert not runs_wide(rows.bfloat16())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not runs_wide(rows)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(products, "_is_wide", lambda: False)
    assert not runs_wide(rows)
    assert torch.equal(linear(rows, weight, bias), functional.linear(rows, weight, bias))


def test_the_layer_is_torchs_own_with_another_product() -> None:
    layer = Linear(64, 48)
    rows = make(300, 64, 48)[0]
    assert set(layer.state_dict()) == {"weight", "bias"}
    expected = functional.linear(rows, layer.weight, layer.bias)
    torch.testing.assert_close(layer(rows), expected, atol=1e-5, rtol=1e-5)
