import math
from collections.abc import Mapping
from itertools import combinations

import pytest

from moca_rag.errors import ConfigError
from moca_rag.fusion import CERTAIN, SHARPNESS, fuse
from moca_rag.records import FusionWeights

EVEN = FusionWeights(text=0.5, passages=0.5, vision=0.5, wordless=0.75)
SAYS = {"text", "other"}


def total(fused: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {page: sum(shares.values()) for page, shares in fused.items()}


def test_a_scan_at_vision_rank_one_stays_above_a_text_page_at_vision_rank_two_that_no_word_matches() -> None:
    totals = total(fuse({"vision": {"scan": 0.9, "text": 0.89, "other": 0.1}, "text": {"other": 7.0}}, SAYS))
    assert totals["scan"] == pytest.approx(FusionWeights().wordless)
    assert totals["scan"] > totals["text"]


def test_a_page_is_believed_as_far_as_any_ranking_believes_it() -> None:
    rankings = {"vision": {"text": 0.9, "other": 0.2}, "passages": {"text": 0.9, "other": 0.1}, "text": {"text": 3.0}}
    weights = FusionWeights(text=0.9, passages=0.5, vision=0.2)
    fused = fuse(rankings, SAYS, weights)
    assert total(fused) == pytest.approx({"text": 1 - 0.1 * 0.5 * 0.8, "other": 0.0})
    parts = [fused["text"][name] for name in ("vision", "passages", "text")]
    assert parts == sorted(parts)
    assert parts[1] / parts[0] == pytest.approx(math.log(0.5) / math.log(0.8))
    assert total(fuse({"text": {"text": 3.0}}, SAYS, weights)) == {"text": pytest.approx(0.9)}


def test_a_ranking_that_is_not_believed_changes_nothing() -> None:
    text = {"text": 3.0, "other": 1.5}
    alone = total(fuse({"text": text}, SAYS, EVEN))
    unheard = FusionWeights(text=0.5, passages=0.0, vision=0.0)
    assert total(fuse({"vision": {"other": 0.9, "text": 0.1}, "text": text}, SAYS, unheard)) == pytest.approx(alone)
    assert total(fuse({"vision": {"other": 0.9, "text": 0.1}, "text": text}, SAYS, EVEN)) != pytest.approx(alone)


def test_a_page_that_both_look_and_words_find_stays_above_a_scan_that_looks_best() -> None:
    totals = total(fuse({"vision": {"scan": 0.9, "text": 0.899, "other": 0.1}, "text": {"text": 7.0}}, SAYS))
    assert totals["text"] > totals["scan"]


def test_the_best_pages_of_different_rankings_are_never_tied() -> None:
    weights = FusionWeights()
    sets = [names for size in (1, 2, 3) for names in combinations(("text", "passages", "vision"), size)]
    beliefs = [1 - math.prod(1 - getattr(weights, name) for name in names) for names in sets] + [weights.wordless]
    nearest = min(abs(one - other) for one, other in combinations(beliefs, 2))
    assert nearest > 0.005


def test_a_weak_look_alone_falls_behind_words_that_match_and_stays_above_those_that_do_not() -> None:
    rankings = {"vision": {"scan": 0.9, "text": 0.2, "other": 0.89}, "text": {"text": 7.0, "other": 0.1}}
    for wordless, order in ((1.0, ["scan", "text", "other"]), (0.7, ["text", "scan", "other"])):
        fused = fuse(rankings, SAYS, FusionWeights(text=0.9, vision=0.1, wordless=wordless))
        assert sorted(fused, key=lambda page: -sum(fused[page].values())) == order
    assert fused["scan"] == {"vision": pytest.approx(0.7)}


def test_a_scan_among_few_is_believed_less_but_no_less_than_a_look_beside_words() -> None:
    def scan(share: float, vision: float = 0.0) -> float:
        weights = FusionWeights(vision=vision, wordless=0.8)
        return total(fuse({"vision": {"scan": 0.9, "text": 0.1}, "text": {}}, SAYS, weights, share))["scan"]

    assert [scan(share) for share in (0.5, 0.9, 1.0)] == pytest.approx([0.8] * 3)  # the many get no more for it
    assert scan(0.2) == pytest.approx(0.5)  # odds of 4 to 1 for it, of 1 to 4 beforehand
    assert scan(0.0) == 0.0
    assert scan(0.0, vision=0.3) == pytest.approx(0.3)


def test_where_no_word_matches_passages_are_believed_in_the_words_place() -> None:
    looks, passages = {"scan": 0.9, "text": 0.1, "other": 0.1}, {"text": 0.8, "other": 0.2}
    weights = FusionWeights(text=0.9, passages=0.1, vision=0.0, wordless=0.8)
    unknown = total(fuse({"vision": looks, "passages": passages, "text": {}}, SAYS, weights))
    assert unknown == pytest.approx({"scan": 0.8, "text": 0.9, "other": 0.0})
    known = total(fuse({"vision": looks, "passages": passages, "text": {"other": 1.0}}, SAYS, weights))
    assert known == pytest.approx({"scan": 0.8, "text": 0.1, "other": 0.9})


def test_what_one_ranking_is_sure_of_another_still_parts() -> None:
    sure = FusionWeights(text=1.0, vision=0.5)
    totals = total(fuse({"vision": {"text": 0.1, "other": 0.9}, "text": {"text": 2.0, "other": 2.0}}, SAYS, sure))
    assert CERTAIN <= totals["text"] < totals["other"] < 1.0


def test_of_a_ranking_by_vectors_the_first_few_count() -> None:
    cosines = {f"p{number}": 1.0 - number / 99 for number in range(100)}
    fused = total(fuse({"vision": cosines}, set(), EVEN))
    assert fused["p0"] == 0.75
    assert fused["p50"] == pytest.approx(0.75 * (49 / 99) ** SHARPNESS)
    assert fused["p50"] < fused["p0"] / 4


def test_the_last_of_a_full_ranking_counts_as_nothing_and_of_a_short_one_as_a_match() -> None:
    full = {f"p{number}": float(100 - number) for number in range(100)}
    assert fuse({"text": full}, set(full), EVEN, depth=100)["p99"]["text"] == 0.0
    assert fuse({"text": {"a": 4.0, "b": 1.0}}, {"a", "b"}, EVEN)["b"]["text"] == pytest.approx(0.5 * 0.25)


def test_equal_scores_all_count_fully() -> None:
    assert fuse({"vision": {"a": 0.5, "b": 0.5}}, set(), EVEN) == {"a": {"vision": 0.75}, "b": {"vision": 0.75}}


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, True, "0.5", None])
def test_a_weight_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"weights: passages is .*: give a number from 0 to 1"):
        FusionWeights(passages=value)
