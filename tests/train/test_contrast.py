"""The contrastive loss against a plain loop, and which documents it leaves out."""

import doctest
import math

import pytest
import torch
from moca_rag.train import contrast
from moca_rag.train.contrast import (
    Negatives,
    accuracy,
    distil,
    info_nce,
    mask_duplicates,
    matryoshka_nce,
    place_positives,
    score_documents,
)
from torch import Tensor
from torch.nn.functional import normalize

from moca_rag.errors import ConfigError

COUNTS = torch.tensor([3, 1, 4, 2])  # a positive and its hard negatives, as many as the row has
POSITIVES = place_positives(COUNTS)
# The positive of query 0 comes back as query 3's positive and as query 2's last hard negative.
HASHES = torch.tensor([5, 10, 11, 20, 30, 31, 32, 5, 5, 41])


def unit(rows: int, seed: int, size: int = 16) -> Tensor:
    return normalize(torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)), dim=-1)


QUERIES, DOCUMENTS = unit(4, 0), unit(10, 1)


def by_loop(queries: Tensor, documents: Tensor, temperature: float, negatives: str, dedupe: bool) -> float:
    """Equation 3 as it is written, query by query in Python's numbers."""
    total, owners = 0.0, torch.repeat_interleave(torch.arange(4), COUNTS).tolist()
    for query, positive in enumerate(POSITIVES.tolist()):
        terms = [math.exp(float(queries[query] @ document) / temperature) for document in documents]
        left_out = {
            row
            for row in range(len(documents))
            if row != positive
            and (
                (dedupe and HASHES[row] == HASHES[positive])
                or (negatives == "own" and row not in POSITIVES.tolist() and owners[row] != query)
            )
        }
        total -= math.log(terms[positive] / sum(term for row, term in enumerate(terms) if row not in left_out))
    return total / len(queries)


@pytest.mark.parametrize("dedupe", [False, True])
@pytest.mark.parametrize("negatives", ["all", "own"])
@pytest.mark.parametrize("temperature", [0.03, 0.5])
def test_info_nce_is_the_plain_loop(negatives: Negatives, temperature: float, dedupe: bool) -> None:
    same = mask_duplicates(HASHES, POSITIVES) if dedupe else None
    got = info_nce(QUERIES, DOCUMENTS, POSITIVES, temperature=temperature, same=same, negatives=negatives)
    assert float(got) == pytest.approx(by_loop(QUERIES, DOCUMENTS, temperature, negatives, dedupe), rel=1e-5)


@pytest.mark.parametrize("negatives", ["all", "own"])
def test_each_query_that_a_document_answers_is_judged_as_if_it_were_the_only_one(negatives: Negatives) -> None:
    asked, more = torch.tensor([1, 1, 3, 1]), unit(2, 7)
    queries, positives = torch.cat([QUERIES[:3], more, QUERIES[3:]]), POSITIVES.repeat_interleave(asked)
    same = mask_duplicates(HASHES, positives)
    rules = {"negatives": negatives, "temperature": 0.1}
    expected = []
    for query, pair in zip(queries, torch.arange(4).repeat_interleave(asked).tolist(), strict=True):
        one, own = query[None], POSITIVES[pair : pair + 1]
        alone = score_documents(QUERIES.index_copy(0, torch.tensor([pair]), one), DOCUMENTS, POSITIVES,
                                same=mask_duplicates(HASHES, POSITIVES), negatives=negatives)  # fmt: skip
        expected.append(torch.nn.functional.cross_entropy(alone[pair : pair + 1] / 0.1, own))
    found = info_nce(queries, DOCUMENTS, positives, same=same, **rules)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_the_temperature_is_the_papers_unless_given() -> None:
    assert float(info_nce(QUERIES, DOCUMENTS, POSITIVES)) == pytest.approx(
        by_loop(QUERIES, DOCUMENTS, 0.03, "all", False), rel=1e-5
    )


def test_a_duplicate_of_the_positive_is_masked_and_the_positive_is_not() -> None:
    same = mask_duplicates(HASHES, POSITIVES)
    assert same.nonzero().tolist() == [[0, 7], [0, 8], [3, 0], [3, 7]]
    assert not same.gather(1, POSITIVES[:, None]).any()


def test_a_masked_duplicate_has_no_gradient() -> None:
    documents = DOCUMENTS.clone().requires_grad_()
    same = mask_duplicates(HASHES, POSITIVES)
    loss = info_nce(QUERIES[:1], documents, POSITIVES[:1], same=same[:1], temperature=0.5)
    (gradient,) = torch.autograd.grad(loss, documents)
    assert (gradient.abs().sum(1) > 0).tolist() == [row not in (7, 8) for row in range(10)]


def test_own_negatives_are_other_positives_and_no_foreign_hard_negatives() -> None:
    seen = score_documents(QUERIES, DOCUMENTS, POSITIVES, negatives="own").isfinite()
    assert [row.nonzero().flatten().tolist() for row in seen] == [
        [0, 1, 2, 3, 4, 8],
        [0, 3, 4, 8],
        [0, 3, 4, 5, 6, 7, 8],
        [0, 3, 4, 8, 9],
    ]
    assert score_documents(QUERIES, DOCUMENTS, POSITIVES).isfinite().all()


def test_bf16_embeddings_are_scored_in_float32() -> None:
    queries, documents = QUERIES.bfloat16(), DOCUMENTS.bfloat16()
    got = info_nce(queries, documents, POSITIVES)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, info_nce(queries.float(), documents.float(), POSITIVES), rtol=0, atol=0)


def test_accuracy_counts_positives_above_every_negative() -> None:
    queries = torch.eye(3)
    documents = normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 1], [0, 0, 1.0]]), dim=-1)
    positives = torch.tensor([0, 1, 2])
    assert float(accuracy(queries, documents, positives)) == pytest.approx(2 / 3)
    same = torch.zeros(3, 4, dtype=torch.bool)
    same[2, 3] = True
    assert float(accuracy(queries, documents, positives, same=same)) == 1


def test_a_collapsed_model_is_never_right() -> None:
    collapsed = torch.ones(6, 4) / 2
    assert float(accuracy(collapsed[:2], collapsed, torch.tensor([0, 3]))) == 0


def test_matryoshka_sums_the_loss_of_each_cut_at_unit_length() -> None:
    same = mask_duplicates(HASHES, POSITIVES)
    expected = 0.0
    for dimension, weight in ((4, 1.0), (16, 0.5)):
        queries = torch.stack([row[:dimension] / row[:dimension].norm() for row in QUERIES])
        documents = torch.stack([row[:dimension] / row[:dimension].norm() for row in DOCUMENTS])
        expected += weight * by_loop(queries, documents, 0.1, "own", True)
    got = matryoshka_nce(
        QUERIES,
        DOCUMENTS,
        POSITIVES,
        dimensions=(4, 16),
        weights=(1.0, 0.5),
        temperature=0.1,
        same=same,
        negatives="own",
    )
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_matryoshka_of_the_full_dimension_is_info_nce() -> None:
    got = matryoshka_nce(QUERIES, DOCUMENTS, POSITIVES, dimensions=(16,))
    torch.testing.assert_close(got, info_nce(QUERIES, DOCUMENTS, POSITIVES))


@pytest.mark.parametrize("dimensions", [(), (0,), (8, 17)])
def test_a_cut_that_the_embedding_does_not_have_is_refused(dimensions: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="from 1 to 16"):
        matryoshka_nce(QUERIES, DOCUMENTS, POSITIVES, dimensions=dimensions)


def test_weights_that_do_not_match_the_cuts_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one for each"):
        matryoshka_nce(QUERIES, DOCUMENTS, POSITIVES, dimensions=(4, 8), weights=(1.0,))


def test_an_unknown_choice_of_negatives_is_refused() -> None:
    with pytest.raises(ConfigError, match="'none': give all"):
        info_nce(QUERIES, DOCUMENTS, POSITIVES, negatives="none")  # type: ignore[arg-type]


def test_the_examples_run() -> None:
    assert doctest.testmod(contrast) == doctest.TestResults(failed=0, attempted=5)


def test_distillation_is_the_divergence_of_a_plain_loop() -> None:
    rows, meanings = unit(5, 0), unit(5, 1, size=7)
    expected = 0.0
    for own in range(5):
        others = [other for other in range(5) if other != own]
        wanted, found = (
            torch.tensor([float(vectors[own] @ vectors[other]) / 0.05 for other in others]).softmax(0)
            for vectors in (meanings, rows)
        )
        expected += sum(float(w) * (math.log(w) - math.log(f)) for w, f in zip(wanted, found, strict=True)) / 5
    assert float(distil(rows, meanings)) == pytest.approx(expected, rel=1e-4)
    assert float(distil(meanings, meanings)) == 0


def test_a_document_scores_by_the_best_of_its_regions() -> None:
    queries, documents = unit(3, 0), unit(5, 1)
    regions = torch.stack([documents, unit(5, 2)], dim=1)
    positives = torch.tensor([0, 2, 4])
    scores = score_documents(queries, regions, positives)
    for query, row in zip(queries, scores, strict=True):
        assert row.tolist() == pytest.approx([max(float(query @ one) for one in document) for document in regions])
    over_again = torch.stack([documents, documents], dim=1)
    assert torch.equal(score_documents(queries, over_again, positives), score_documents(queries, documents, positives))
    cuts = {"dimensions": [2, 4], "temperature": 0.1}
    whole, twice = (matryoshka_nce(queries, one, positives, **cuts) for one in (documents, over_again))  # type: ignore[arg-type]
    assert float(twice) == pytest.approx(float(whole), rel=1e-6)
