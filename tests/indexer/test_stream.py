from collections.abc import Iterator
from pathlib import Path

import numpy as np
from moca_rag.indexer.pool import Answer, Request
from moca_rag.indexer.stream import embed_answers, put_in_order

from moca_rag.errors import DocumentError
from moca_rag.passages import cut_passages, passage_key
from moca_rag.records import Box, PageContent, Word
from tests.fakes import COLOURS, ColourEncoder, embed_colours, embed_meaning


def page(key: int, colour: str, text: str = "") -> Answer:
    image = np.zeros((56, 56, 3), np.uint8) + np.array(COLOURS[colour], np.uint8) * 255
    words = tuple(Word(word, Box(0, 0, 1, 1)) for word in text.split())
    return Answer(Request(key, Path("a.pdf"), key), None, PageContent(key, 1, 1, words, image), colour.encode())


def fault(key: int) -> Answer:
    return Answer(Request(key, Path("a.pdf"), key), error=DocumentError("broken", "page_broken"))


def test_every_answer_keeps_its_own_embedding_and_its_place() -> None:
    answers = [fault(0), page(1, "red"), fault(2), page(3, "blue"), page(4, "red"), page(5, "green"), fault(6)]
    embedded = list(embed_answers(answers, ColourEncoder(), lambda key: key == b"green"))
    assert [one.answer.request.key for one in embedded] == list(range(7))
    assert [list(one.vectors) for one in embedded] == [[], [b"red"], [], [b"blue"], [], [], []]
    for one, answer in zip(embedded, answers, strict=True):
        for embedding in one.vectors.values():
            assert answer.content is not None and answer.content.image is not None
            assert np.allclose(embedding, embed_colours(answer.content.image))


def test_a_page_comes_with_its_picture_and_all_its_passages() -> None:
    long = "lorem " * 50 + "azure " + "ipsum " * 100
    answers = [
        page(0, "red", "a scarlet curtain"),
        fault(1),
        page(2, "blue", long),
        page(3, "red", ""),
        page(4, "green", "a scarlet curtain"),
    ]
    embedded = list(embed_answers(answers, ColourEncoder(), lambda key: False, with_passages=True))
    assert [one.answer.request.key for one in embedded] == list(range(5))
    curtain, parts = "a scarlet curtain", cut_passages(long.split())
    assert len(parts) == 3
    texts = [[curtain], [], parts, [], [curtain]]
    assert [list(one.passage_keys) for one in embedded] == [[passage_key(text) for text in page] for page in texts]
    fresh = [{b"red", passage_key(curtain)}, set(), {b"blue", *map(passage_key, parts)}, set(), {b"green"}]
    assert [set(one.vectors) for one in embedded] == fresh
    for text in (curtain, *parts):
        (vector,) = [one.vectors[passage_key(text)] for one in embedded if passage_key(text) in one.vectors]
        assert np.allclose(vector, embed_meaning(text))


def test_passages_that_are_known_are_not_embedded_and_still_belong_to_their_page() -> None:
    encoder = ColourEncoder()
    answers = [page(0, "red", "a curtain"), page(1, "blue", "a lawn")]
    known = {b"red", passage_key("a curtain"), b"blue"}
    first, second = embed_answers(answers, encoder, known.__contains__, with_passages=True)
    assert (first.passage_keys, first.vectors) == ((passage_key("a curtain"),), {})
    assert list(second.vectors) == [passage_key("a lawn")]
    assert (encoder.num_pages, encoder.num_passages) == (0, 1)


def test_no_picture_waits_with_its_page() -> None:
    answers = [page(0, "red"), page(1, "red"), page(2, "blue")]
    for encoder in (ColourEncoder(), None):
        for one in embed_answers(answers, encoder, lambda key: False):
            assert one.answer.content is not None
            assert one.answer.content.image is None


def test_without_an_encoder_answers_pass_through() -> None:
    embedded = embed_answers([page(1, "red", "words"), fault(2)], None, lambda key: False, with_passages=True)
    assert [(one.vectors, one.passage_keys) for one in embedded] == [({}, ()), ({}, ())]


def test_no_more_pages_are_read_ahead_than_a_batch_needs() -> None:
    read = []

    def answers() -> Iterator[Answer]:
        for key, colour in enumerate(["red", "blue", "green", "white"]):
            read.append(key)
            yield page(key, colour)

    pairs = embed_answers(answers(), ColourEncoder(), lambda key: False)
    next(pairs)
    assert len(read) == 2


def test_answers_are_put_in_order_as_soon_as_they_can_be() -> None:
    arriving = [fault(key) for key in (2, 0, 1, 4, 3)]
    assert [answer.request.key for answer in put_in_order(arriving)] == [0, 1, 2, 3, 4]
