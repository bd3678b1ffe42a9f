"""Pairs rendered pages with the embeddings of their pictures and passages while both are still being made."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from moca_rag.passages import cut_passages, passage_key
from moca_rag.records import Encoder, Floats, Part

from .pool import Answer

MAX_RECENT = 100_000  # keys kept in mind until they are committed; one that is forgotten too early is embedded twice


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


@dataclass(frozen=True, slots=True)
class Embedded:
    """An answer without its picture, the keys of its passages, and the embeddings [D] that are new with it, by key."""

    answer: Answer
    passage_keys: tuple[bytes, ...] = ()
    vectors: dict[bytes, Floats] = field(default_factory=dict)


def embed_answers(
    answers: Iterable[Answer], encoder: Encoder | None, is_known: Callable[[bytes], bool], with_passages: bool = False
) -> Iterator[Embedded]:
    """Each answer with the embeddings of its picture and its passages, in order; what is known by key is passed over.

    Pictures and passages go to the encoder as one stream, page after page, so that they share its batches. It reads as
    few or as many ahead as those need; what it has not embedded yet waits here, without its picture.
    """
    if encoder is None:
        for answer in answers:
            yield Embedded(_drop_picture(answer))
        return
    waiting: deque[tuple[Embedded, deque[bytes]]] = deque()
    recent: set[bytes] = set()

    def parts() -> Iterator[Part]:
        for answer in answers:
            passages = _cut_text(answer) if with_passages else {}
            contents = _list_picture(answer) | passages
            fresh = [key for key in contents if key not in recent and not is_known(key)]
            if len(recent) > MAX_RECENT:
                recent.clear()
            recent.update(fresh)
            waiting.append((Embedded(_drop_picture(answer), tuple(passages)), deque(fresh)))
            for key in fresh:
                yield contents.pop(key)

    for embedding in encoder.encode_pages(parts()):
        while not waiting[0][1]:
            yield waiting.popleft()[0]
        page, missing = waiting[0]
        page.vectors[missing.popleft()] = embedding
        if not missing:
            yield waiting.popleft()[0]
    for page, _ in waiting:
        yield page


def _list_picture(answer: Answer) -> dict[bytes, Part]:
    if answer.image_key is None:
        return {}
    assert answer.content is not None and answer.content.image is not None
    return {answer.image_key: answer.content.image}


def _cut_text(answer: Answer) -> dict[bytes, Part]:
    words = () if answer.content is None else answer.content.words
    return {passage_key(text): text for text in cut_passages([word.text for word in words])}


def _drop_picture(answer: Answer) -> Answer:
    return answer if answer.content is None else replace(answer, content=replace(answer.content, image=None))
