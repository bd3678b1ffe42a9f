"""Pairs rendered pages with their embeddings while both are still being made."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from moca_rag.records import Encoder, Floats, Pixels

from .pool import Answer


def put_in_order(answers: Iterable[Answer]) -> Iterator[Answer]:
    """Answers with the keys 0, 1, 2 and on, in this order: names and ids depend on it, and not on which worker was first."""
    early: dict[int, Answer] = {}
    following = 0
    for answer in answers:
        early[answer.request.key] = answer
        while following in early:
            yield early.pop(following)
            following += 1


def make_batches(answers: Iterable[Answer], size: int) -> Iterator[list[Answer]]:
    """Lists of `size` answers, the last one shorter."""
    iterator = iter(answers)
    while batch := list(islice(iterator, size)):
        yield batch


def embed_answers(
    answers: Iterable[Answer], encoder: Encoder | None, is_known: Callable[[bytes], bool]
) -> Iterator[tuple[Answer, Floats | None]]:
    """Each answer with the embedding [D] of its picture, in order; None where there is no picture or it is known by key.

    The encoder reads as few or as many pages ahead as its batches need; what it has not embedded yet waits here.
    """
    if encoder is None:
        for answer in answers:
            yield answer, None
        return
    waiting: deque[tuple[Answer, bool]] = deque()
    keys: set[bytes] = set()

    def pictures() -> Iterator[Pixels]:
        for answer in answers:
            key = answer.image_key
            fresh = key is not None and key not in keys and not is_known(key)
            waiting.append((answer, fresh))
            if key is not None and fresh:
                keys.add(key)
                assert answer.content is not None and answer.content.image is not None
                yield answer.content.image

    for embedding in encoder.encode_pages(pictures()):
        while not waiting[0][1]:
            yield waiting.popleft()[0], None
        yield waiting.popleft()[0], embedding
    for answer, _ in waiting:
        yield answer, None
