from collections.abc import Iterator
from pathlib import Path

import numpy as np
from moca_rag.indexer.pool import Answer, Request
from moca_rag.indexer.stream import embed_answers, put_in_order

from moca_rag.errors import DocumentError
from moca_rag.records import PageContent
from tests.fakes import COLOURS, ColourEncoder, embed_colours


def page(key: int, colour: str) -> Answer:
    image = np.zeros((56, 56, 3), np.uint8) + np.array(COLOURS[colour], np.uint8) * 255
    return Answer(Request(key, Path("a.pdf"), key), None, PageContent(key, 1, 1, (), image), colour.encode())


def fault(key: int) -> Answer:
    return Answer(Request(key, Path("a.pdf"), key), error=DocumentError("broken", "page_broken"))


def test_every_answer_keeps_its_own_embedding_and_its_place() -> None:
    answers = [fault(0), page(1, "red"), fault(2), page(3, "blue"), page(4, "red"), page(5, "green"), fault(6)]
    pairs = list(embed_answers(answers, ColourEncoder(), lambda key: key == b"green"))
    assert [answer.request.key for answer, _ in pairs] == list(range(7))
    assert [embedding is not None for _, embedding in pairs] == [False, True, False, True, False, False, False]
    for answer, embedding in pairs:
        if embedding is not None and answer.content is not None and answer.content.image is not None:
            assert np.allclose(embedding, embed_colours(answer.content.image))


def test_without_an_encoder_answers_pass_through() -> None:
    assert [embedding for _, embedding in embed_answers([page(1, "red"), fault(2)], None, lambda key: False)] == [
        None,
        None,
    ]


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
