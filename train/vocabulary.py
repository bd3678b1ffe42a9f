"""First embeddings for the tokens of a model out of nothing: what a text is about is then the mean of its tokens from the start.

A token's embedding has three parts. Its meaning is fitted so that the mean over a sentence's tokens points where a teacher
puts the sentence: a static embedding model. Its spelling is a random code of its letters, longer for rare tokens, so that the
mean over a text is a projection of its TF-IDF. The last number is the same for all: through the norm at the end it lets a token
be short beside the others, and is dropped there.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cosine_similarity, embedding_bag

from moca_rag.progress import Reporter
from moca_rag.records import Floats

from .letters import code_word
from .teacher import Teacher

SPELLING_SHARE = 1 / 3  # of the numbers
SPELLING = 0.36  # of a sentence's squared length; the rest is meaning
LEAST_WEIGHT = 0.05
SIZE = 10.0  # of the number that all share: what layers add while they know little must be small beside a token
NUM_EPOCHS, BATCH, LEARNING_RATE = 8, 256, 1e-2
TAUGHT_AT_ONCE = 4096


def embed_vocabulary(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> Floats:
    """First embeddings [V, size] without a teacher: spelling alone. Special tokens, which no text has, have none."""
    return _join([_spell(_name_tokens(tokenizer), weigh_tokens(tokenizer, texts), size - 1)])


def teach_vocabulary(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    size: int,
    teacher: Teacher,
    sentences: Sequence[str],
    reporter: Reporter,
) -> Floats:
    """First embeddings [V, size] whose means over `sentences` point where the teacher puts these."""
    names, rarities = _name_tokens(tokenizer), weigh_tokens(tokenizer, texts)
    room = count_meaning(size)
    spelling = _spell(names, rarities, size - 1 - room)
    reporter.start("sentences taught", len(sentences))
    taught = []
    for start in range(0, len(sentences), TAUGHT_AT_ONCE):
        taught.append(teacher.encode(sentences[start : start + TAUGHT_AT_ONCE]))
        reporter.advance("sentences taught", len(taught[-1]))
    wanted = np.concatenate(taught)
    middle = wanted.mean(axis=0)
    axes = find_axes(wanted - middle, room)
    first = normalize_rows((teacher.encode(names) - middle) @ axes.T) * rarities[:, None]
    ids = [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
    meaning = fit_means(first, ids, (wanted - middle) @ axes.T)
    lengths = [
        np.sqrt(np.mean([np.square(part[row].mean(axis=0)).sum() for row in ids])) for part in (meaning, spelling)
    ]
    scales = [math.sqrt(share) / length for share, length in zip((1 - SPELLING, SPELLING), lengths, strict=True)]
    return _join([meaning * scales[0] * lengths[1], spelling * scales[1] * lengths[1]])


def count_meaning(size: int) -> int:
    """How many of an embedding's numbers, the first ones, are a token's meaning.

    >>> count_meaning(320)
    212
    """
    return size - 1 - round(size * SPELLING_SHARE)


def fit_means(first: Floats, ids: Sequence[Sequence[int]], wanted: Floats, seed: int = 0) -> Floats:
    """A table [V, D], begun at `first`, whose means over the rows of each text point as `wanted` [N, D] does."""
    table = torch.from_numpy(first.copy()).requires_grad_()
    targets = torch.from_numpy(wanted)
    optimizer = torch.optim.Adam([table], lr=LEARNING_RATE)
    generator = np.random.default_rng(seed)
    kept = np.flatnonzero([len(row) > 0 for row in ids])
    steps = NUM_EPOCHS * math.ceil(len(kept) / BATCH)
    done = 0
    for _ in range(NUM_EPOCHS):
        order = generator.permutation(kept)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH].tolist()
            offsets = torch.tensor(np.cumsum([0, *(len(ids[row]) for row in chosen[:-1])]))
            means = embedding_bag(
                torch.tensor([token for row in chosen for token in ids[row]]), table, offsets, mode="mean"
            )
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - done / steps)
            optimizer.zero_grad()
            torch.autograd.backward((1 - cosine_similarity(means, targets[chosen])).mean())
            optimizer.step()
            done += 1
    fitted: Floats = table.detach().numpy()
    return fitted


def weigh_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> Floats:
    """How much each token [V] tells a page from others: 1 where it stands on a single one, near 0 where on all.

    Special tokens, which no text has, tell nothing: 0.
    """
    counts: Counter[int] = Counter()
    number = 0
    for text in texts:
        counts.update(set(tokenizer.encode(text, add_special_tokens=False).ids))
        number += 1
    rarities = [
        math.log(max(number, 2) / max(counts[token], 1)) / math.log(max(number, 2))
        for token in range(tokenizer.get_vocab_size())
    ]
    weights = np.maximum(rarities, LEAST_WEIGHT).astype(np.float32)
    weights[list(tokenizer.get_added_tokens_decoder())] = 0.0
    return weights


def find_axes(centred: Floats, size: int) -> Floats:
    """The first principal axes [at most size, D] of centred rows, each turned so that its largest number is positive."""
    axes: Floats = np.linalg.eigh(centred.T @ centred)[1].T[::-1][:size]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    turned: Floats = np.ascontiguousarray(axes * signs[:, None])
    return turned


def normalize_rows(rows: Floats) -> Floats:
    """Unit rows; one of zeros stays as it is."""
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return unit


def _name_tokens(tokenizer: Tokenizer) -> list[str]:
    """What each token stands for, without blanks and in small letters."""
    return [tokenizer.decode([token]).strip().lower() for token in range(tokenizer.get_vocab_size())]


def _spell(names: Sequence[str], rarities: Floats, size: int) -> Floats:
    """Codes [V, size] of the tokens' letters, as long as the tokens are rare."""
    codes: Floats = np.stack([code_word(name, size) for name in names]) * rarities[:, None]
    return codes


def _join(parts: Sequence[Floats]) -> Floats:
    joined = np.concatenate([*parts, np.ones((len(parts[0]), 1), np.float32)], axis=1)
    return (SIZE * joined).astype(np.float32)
