"""Mean pooling over packed states."""

import pytest
import torch

from moca_rag.pooling import mean_pool


def test_an_embedding_is_the_unit_mean_of_its_own_tokens() -> None:
    states = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    embeddings = mean_pool(states, [3, 1, 8])
    for embedding, rows in zip(embeddings, (states[:3], states[3:4], states[4:]), strict=True):
        mean = rows.sum(0) / len(rows)
        torch.testing.assert_close(embedding, mean / mean.norm())
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))


def test_small_tokens_of_a_long_page_are_not_lost_in_bf16() -> None:
    states = torch.full((2048, 2), 0.001, dtype=torch.bfloat16)
    states[0] = torch.tensor([1.0, -1.0])
    exact = states.double().mean(0)
    torch.testing.assert_close(mean_pool(states, [2048])[0].double(), exact / exact.norm(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[], [0, 4], [3], [5]])
def test_lengths_that_do_not_cover_the_states_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be pooled"):
        mean_pool(torch.ones(4, 2), lengths)
