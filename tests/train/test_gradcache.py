"""Gradients in chunks and over ranks against autograd on the whole batch, on a small real encoder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from moca_rag.train.contrast import info_nce, mask_duplicates, place_positives
from moca_rag.train.gradcache import gather_with_grad, grad_cache
from torch import Tensor
from torch.multiprocessing import spawn

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import find_checkpoint
from moca_rag.inputs import Pack, SequenceBuilder, TokenSequence, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pooling import mean_pool
from moca_rag.records import PixelBudget
from tests.small_model import SENTENCES, write_small_model

COUNTS = (3, 1, 2, 2, 1)  # documents of each query; query 4's positive is query 1's over again
HASHES = (1, 2, 3, 4, 5, 6, 7, 8, 4)
Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


class Trainee:
    """The encoder with trainable weights, and the batch's sequences: five queries, nine documents, some with images."""

    def __init__(self, folder: Path) -> None:
        self.backbone: Backbone = load_backbone(find_checkpoint(folder), torch.device("cpu"), torch.float32)
        self.backbone.load_vision()
        self.backbone.double().requires_grad_()  # what is left of rounding is that of pooling and loss
        budget = PixelBudget(784, 16 * 784)
        builder = SequenceBuilder(
            load_tokenizer(folder / "tokenizer.json"), self.backbone.shape.tokens, budget, max_tokens=256
        )
        self.queries = [builder.build([sentence]) for sentence in SENTENCES]
        self.documents = []
        for place in range(sum(COUNTS)):
            noise = np.random.default_rng(HASHES[place]).integers(0, 256, (56, 28 * (1 + place % 3), 3), np.uint8)
            text = f"{SENTENCES[place % 5][HASHES[place] :]}"
            self.documents.append(builder.build([noise, text] if place % 2 == 0 else [text]))
        self.documents[8] = self.documents[3]

    def encode(self, chunk: Sequence[TokenSequence]) -> Tensor:
        pack = Pack.of(chunk)
        return mean_pool(self.backbone(pack), pack.lengths)

    def take_gradients(self) -> Gradients:
        """What backward left, which is then cleared."""
        taken = {
            name: weight.grad.clone() for name, weight in self.backbone.named_parameters() if weight.grad is not None
        }
        self.backbone.zero_grad()
        return taken


def batch_loss(num_queries: int, counts: Sequence[int], hashes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """The loss of the global batch from one rank's embeddings, its queries first."""

    def loss(embeddings: Tensor) -> Tensor:
        queries, documents = gather_with_grad(embeddings[:num_queries]), gather_with_grad(embeddings[num_queries:])
        positives = place_positives(gather_with_grad(torch.tensor(counts)))
        same = mask_duplicates(gather_with_grad(torch.tensor(hashes)), positives)
        return info_nce(queries, documents, positives, same=same)

    return loss


def whole_batch(trainee: Trainee) -> tuple[Tensor, Gradients]:
    """Plain autograd: one pass, one process."""
    value = batch_loss(5, COUNTS, HASHES)(trainee.encode([*trainee.queries, *trainee.documents]))
    value.backward()
    return value.detach(), trainee.take_gradients()


def assert_same_gradients(got: Gradients, expected: Gradients) -> None:
    """Equal to 1e-6 of its length, weight by weight; all weights are there, the vision tower's too."""
    assert got.keys() == expected.keys()
    assert {name.split(".")[0] for name in got} == {"language_model", "visual"}
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (got[name] - gradient).norm() <= 1e-6 * gradient.norm(), name


def split(sequences: list[TokenSequence], size: int) -> list[list[TokenSequence]]:
    return [sequences[start : start + size] for start in range(0, len(sequences), size)]


@pytest.mark.parametrize("size", [1, 4, 9, 14])
def test_cached_gradients_are_those_of_the_whole_batch(folder: Path, size: int) -> None:
    trainee = Trainee(folder)
    value, expected = whole_batch(trainee)
    chunks = split([*trainee.queries, *trainee.documents], size)
    got = grad_cache(trainee.encode, chunks, batch_loss(5, COUNTS, HASHES))
    assert not got.requires_grad
    torch.testing.assert_close(got, value, rtol=1e-6, atol=1e-6)
    assert_same_gradients(trainee.take_gradients(), expected)


def test_cached_gradients_add_to_those_before_them() -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    chunks = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])]
    for times in (1, 2):
        loss = grad_cache(lambda chunk: chunk * weight, chunks, lambda rows: (rows**2).sum())
        assert float(loss) == 4 * 35 + 9 * 56
        assert weight.grad is not None
        assert weight.grad.tolist() == [times * 2 * 2 * 35, times * 2 * 3 * 56]


def test_only_one_chunk_is_in_a_graph_at_a_time() -> None:
    weight, alive = torch.ones(2, requires_grad=True), [0, 0]  # now, at most

    def encode(chunk: Tensor) -> Tensor:
        rows = chunk * weight
        if rows.requires_grad:
            alive[0] += 1
            alive[1] = max(alive)
            rows.register_hook(lambda gradient: alive.__setitem__(0, alive[0] - 1))
        return rows

    grad_cache(encode, [torch.ones(3, 2)] * 5, lambda rows: rows.sum())
    assert alive == [0, 1]


def test_a_chunk_without_rows_runs_the_model_all_the_same() -> None:
    weight, runs = torch.ones(2, requires_grad=True), []

    def encode(chunk: Tensor) -> Tensor:
        runs.append(len(chunk))
        return chunk * weight

    grad_cache(encode, [torch.ones(1, 2), torch.ones(0, 2)], lambda rows: rows.sum())
    assert runs == [1, 0, 1, 0]
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1]


def run_rank(rank: int, folder: Path, out: Path) -> None:
    """One of two processes: three queries with six documents, or two with three; ranks average their gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=2)
    trainee = Trainee(folder)
    mine, documents = (slice(0, 3), slice(0, 6)) if rank == 0 else (slice(3, 5), slice(6, 9))
    sequences = [*trainee.queries[mine], *trainee.documents[documents]]
    loss = batch_loss(len(trainee.queries[mine]), COUNTS[mine], HASHES[documents])
    value = grad_cache(trainee.encode, split(sequences, 3 if rank == 0 else 2), loss)
    gradients = trainee.take_gradients()
    for gradient in gradients.values():
        dist.all_reduce(gradient)
        gradient /= 2
    torch.save({"value": value, "gradients": gradients, "uneven": gather_unevenly(rank)}, out / f"{rank}.pt")
    dist.destroy_process_group()


def gather_unevenly(rank: int) -> Gradients:
    """Rank 0 brings no row and rank 1 two; each weighs the gathered numbers in another loss of its own."""
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[: 2 * rank].requires_grad_()
    gathered = gather_with_grad(rows)
    (gradient,) = torch.autograd.grad((gathered * (rank + 1) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum(), rows)
    return {"rows": gathered.detach(), "gradient": gradient, "counts": gather_with_grad(torch.full((rank + 1,), rank))}


@pytest.fixture(scope="module")
def ranks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saved."""
    out = tmp_path_factory.mktemp("ranks")
    spawn(run_rank, (folder, out), nprocs=2)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_have_the_loss_and_gradients_of_one(folder: Path, ranks: list[dict[str, Any]]) -> None:
    value, expected = whole_batch(Trainee(folder))
    for saved in ranks:
        torch.testing.assert_close(saved["value"], value, rtol=1e-6, atol=1e-6)
        assert_same_gradients(saved["gradients"], expected)


def test_gathered_rows_take_back_their_gradients_summed_over_ranks(ranks: list[dict[str, Any]]) -> None:
    parts = [saved["uneven"] for saved in ranks]
    for part in parts:
        assert part["rows"].tolist() == [[1, 2], [3, 4]]
        assert part["counts"].tolist() == [0, 1, 1]
    assert [part["gradient"].tolist() for part in parts] == [[], [[3, 6], [9, 12]]]


def test_without_a_process_group_rows_stay_as_they_are() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather_with_grad(rows) is rows
