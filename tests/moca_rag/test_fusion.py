import pytest

from moca_rag.fusion import fuse, weigh_rankings

BOTH = {"vision": {"scan", "text", "other"}, "text": {"text", "other"}}


def test_a_scan_at_vision_rank_one_stays_above_a_text_page_at_vision_rank_two_that_no_word_matches() -> None:
    fused = fuse({"vision": {"scan": 0.9, "text": 0.89, "other": 0.1}, "text": {"other": 7.0}}, BOTH)
    totals = {page: sum(shares.values()) for page, shares in fused.items()}
    assert totals["scan"] == pytest.approx(1.0)
    assert totals["scan"] > totals["text"]


def test_shares_add_up_to_scores_between_zero_and_one() -> None:
    fused = fuse({"vision": {"text": 0.9, "other": 0.2}, "text": {"text": 3.0, "other": 1.5}}, BOTH)
    assert fused["text"] == {"vision": 0.5, "text": 0.5}
    assert fused["other"] == {"vision": 0.0, "text": pytest.approx(0.25)}


def test_weights_are_data() -> None:
    fused = fuse({"vision": {"text": 1.0, "other": 0.0}, "text": {"other": 1.0}}, BOTH, {"vision": 0.3, "text": 0.7})
    assert fused["text"]["vision"] == pytest.approx(0.3)
    assert fused["other"]["text"] == pytest.approx(0.7)


def test_a_weak_look_alone_falls_behind_words_that_match_and_stays_above_those_that_do_not() -> None:
    rankings = {"vision": {"scan": 0.9, "text": 0.2, "other": 0.89}, "text": {"text": 7.0, "other": 0.1}}
    for wordless, order in ((1.0, ["scan", "text", "other"]), (0.7, ["text", "scan", "other"])):
        fused = fuse(rankings, BOTH, weigh_rankings(0.1, passages=False), wordless)
        assert sorted(fused, key=lambda page: -sum(fused[page].values())) == order
    assert fused["scan"] == {"vision": pytest.approx(0.7)}


@pytest.mark.parametrize("vision", [0.01, 0.1, 0.3, 0.9])
def test_weights_of_a_model_add_up_to_one(vision: float) -> None:
    three, two = weigh_rankings(vision, passages=True), weigh_rankings(vision, passages=False)
    assert sum(three.values()) == pytest.approx(1.0) == sum(two.values())
    assert three["vision"] == vision
    assert two["vision"] == pytest.approx(0.5) if vision == 0.3 else (two["vision"] < 0.5) == (vision < 0.3)


def test_the_last_of_a_full_ranking_counts_as_nothing_and_of_a_short_one_as_a_match() -> None:
    full = {f"p{number}": float(100 - number) for number in range(100)}
    assert fuse({"text": full}, {"text": set(full)}, depth=100)["p99"]["text"] == 0.0
    assert fuse({"text": {"a": 4.0, "b": 1.0}}, {"text": {"a", "b"}})["b"]["text"] == pytest.approx(0.25)


def test_equal_scores_all_count_fully() -> None:
    assert fuse({"vision": {"a": 0.5, "b": 0.5}}, {"vision": {"a", "b"}}) == {
        "a": {"vision": 1.0},
        "b": {"vision": 1.0},
    }
