"""First embeddings of tokens: meanings beside spellings, rare tokens long, common ones short."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.letters import WordPieces
from moca_rag.train.vocabulary import (
    LEAST_WEIGHT,
    SIZE,
    SPELLING,
    embed_vocabulary,
    find_axes,
    fit_means,
    teach_vocabulary,
    weigh_tokens,
)
from tokenizers import Tokenizer

from moca_rag.inputs import load_tokenizer
from moca_rag.progress import SilentReporter
from moca_rag.records import Floats

TOPICS = {"energy": 0, "copper": 0, "table": 1, "chart": 1}
SENTENCES = [f"{one} {two}" for one in TOPICS for two in TOPICS if TOPICS[one] == TOPICS[two]] * 40


class TopicTeacher:
    """Puts a text where the topic of its first word is."""

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.stack([np.eye(64, dtype=np.float32)[TOPICS.get(text.split(" ")[0], 2 + len(text))] for text in texts])


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return load_tokenizer(model / "tokenizer.json")


def embed(codes: Floats, tokenizer: Tokenizer, text: str) -> Floats:
    return codes[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_token_of_every_page_is_short_and_one_of_a_single_page_long(tokenizer: Tokenizer) -> None:
    weights = weigh_tokens(tokenizer, ["energy energy", "energy table", "energy"])
    everywhere = set(tokenizer.encode("energy").ids)
    once = set(tokenizer.encode(" table").ids) - everywhere
    assert weights[list(everywhere)].max() == np.float32(LEAST_WEIGHT)
    assert weights[list(once)].min() == 1.0


def test_texts_of_one_topic_are_near_with_a_teacher_alone(tokenizer: Tokenizer) -> None:
    plain = embed_vocabulary(tokenizer, SENTENCES, 96)
    told = teach_vocabulary(tokenizer, SENTENCES, 96, TopicTeacher(), SENTENCES, SilentReporter())  # type: ignore[arg-type]
    near = [
        cosine(*(embed(codes, tokenizer, word)[:-1] for word in ("energy energy", "copper copper")))
        for codes in (plain, told)
    ]
    far = cosine(*(embed(told, tokenizer, word)[:-1] for word in ("energy energy", "table table")))
    assert near[1] > near[0] + 0.2 and near[1] > far + 0.4


def test_spelling_has_its_share_of_a_sentence(tokenizer: Tokenizer) -> None:
    codes = teach_vocabulary(tokenizer, SENTENCES, 96, TopicTeacher(), SENTENCES, SilentReporter())  # type: ignore[arg-type]
    means = np.stack([embed(codes, tokenizer, sentence)[:-1] for sentence in SENTENCES])
    energies = np.square(means).sum(axis=0)
    assert energies[-32:].sum() / energies.sum() == pytest.approx(SPELLING, abs=0.02)


def test_means_of_the_table_point_where_they_are_told() -> None:
    generator = np.random.default_rng(0)
    wanted = generator.standard_normal((400, 8)).astype(np.float32)
    ids = [[row % 40, 40 + row // 10] for row in range(400)]
    wanted = wanted[:80][[row[0] for row in ids]] + wanted[:80][[row[1] for row in ids]]
    first = 0.1 * generator.standard_normal((80, 8)).astype(np.float32)
    table = fit_means(first, [*(40 * ids), []], np.concatenate([*(40 * [wanted]), wanted[:1]]))
    means = table[np.array(ids)].mean(axis=1)
    assert np.mean([cosine(*pair) for pair in zip(means, wanted, strict=True)]) > 0.9


def test_special_tokens_are_empty_but_for_the_number_that_all_share(tokenizer: Tokenizer) -> None:
    codes = embed_vocabulary(tokenizer, ["a table"], 64)
    assert (codes[:, -1] == SIZE).all()
    assert not codes[list(tokenizer.get_added_tokens_decoder()), :-1].any()


def test_axes_do_not_depend_on_the_sign_that_a_solver_gives() -> None:
    axes = find_axes(np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32), 3)
    assert axes.shape == (3, 5) and (axes.max(axis=1) >= np.abs(axes).max(axis=1) - 1e-6).all()


def test_a_token_stands_where_its_middle_letter_does(tokenizer: Tokenizer) -> None:
    cut = WordPieces(tokenizer).cut("energetically")
    assert [token for token, _ in cut] == tokenizer.encode(" energetically", add_special_tokens=False).ids
    places = [place for _, place in cut]
    assert places == sorted(places) and places[0] >= 0 and places[-1] < len("energetically")
