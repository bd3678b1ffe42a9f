"""The losses of dense lessons against plain loops over one page at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moca_rag.train.letters import ALPHABET, CODE_SIZE, Lesson, code_word
from moca_rag.train.reader import LessonPack, Reader, Readings

from moca_rag.inputs import SequenceBuilder, TokenSequence, load_tokenizer
from tests.packs import SMALL, load, picture

Row = tuple[TokenSequence, Lesson]
FIRST_TOKENS = np.array([[0, 5], [1, 7], [1, 9]], np.int32)
SECOND_TOKENS = np.array([[2, 7]], np.int32)


@pytest.fixture(scope="module")
def reader(model: Path) -> Reader:
    torch.manual_seed(0)
    return Reader(load(model), reads_on=True)


@pytest.fixture(scope="module")
def rows(model: Path, reader: Reader) -> list[Row]:
    builder = SequenceBuilder(load_tokenizer(model / "tokenizer.json"), reader.backbone.shape.tokens, SMALL, 2048)
    first = Lesson(
        np.array([[0, 3], [0, 5], [7, 3]], np.int32),
        np.array([0, 1, 1], np.int32),
        ("a", "table", "lists"),
        FIRST_TOKENS,
    )
    second = Lesson(np.array([[11, 93]], np.int32), np.array([2], np.int32), ("energy",), SECOND_TOKENS)
    return [
        (builder.build([picture(2, 2), "\nA table lists"]), first),
        (builder.build([picture(1, 3), "\nenergy by region"]), second),
    ]


def read_one(reader: Reader, row: Row) -> tuple[float, float, float, float]:
    sequence, lesson = row
    backbone, tokens = reader.backbone, reader.backbone.shape.tokens
    pack = LessonPack.of([row]).pack
    patches, joined, cells = backbone.visual.read(torch.from_numpy(sequence.patches), sequence.grids)
    torch.testing.assert_close(cells, backbone.visual(torch.from_numpy(sequence.patches), sequence.grids))
    letters = 0.0
    for patch, logits in enumerate(reader.letter_head(patches).sigmoid().tolist()):
        there = {place for other, place in lesson.letters.tolist() if other == patch}
        letters -= sum(np.log(rate if place in there else 1 - rate) for place, rate in enumerate(logits))
    states = backbone(pack)
    seen = states[torch.from_numpy(sequence.ids == tokens.pad)]
    words = 0.0
    for cell, (early, late) in enumerate(zip(reader.word_head(joined), reader.state_head(seen), strict=True)):
        wanted = np.sum([code_word(w) for c, w in zip(lesson.cells, lesson.words, strict=True) if c == cell], axis=0)
        target = torch.as_tensor(wanted, dtype=torch.float32).expand(CODE_SIZE)
        words += float((early - target).square().sum() + (late - target).square().sum()) / 2
    table, sums = backbone.language_model.embed_tokens.weight, 0.0
    for cell, state in enumerate(cells):
        printed = [table[token] - table[tokens.pad] for place, token in lesson.tokens.tolist() if place == cell]
        sums += float((state - sum(printed, table[tokens.pad])).square().sum())
    following = 0.0
    start = int(np.flatnonzero(sequence.ids == tokens.end)[0])
    for place in range(start, len(sequence.ids) - 1):
        logits = states[place] @ backbone.language_model.embed_tokens.weight.T
        following -= float(logits.log_softmax(-1)[sequence.ids[place + 1]])
    return letters, words, sums, following


def test_losses_of_a_pack_are_those_of_plain_loops_over_its_pages(reader: Reader, rows: list[Row]) -> None:
    with torch.no_grad():
        found: Readings = reader(LessonPack.of(rows))
        expected = np.sum([read_one(reader, row) for row in rows], axis=0)
    got = [found.letters.item(), found.words.item(), found.sums.item(), found.tokens.item()]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert found.num_tokens == sum(len(sequence.ids) - len(sequence.patches) // 4 - 2 for sequence, _ in rows)
    assert found.found[2] == 4


def test_a_reader_of_crops_runs_the_tower_alone(model: Path, rows: list[Row]) -> None:
    torch.manual_seed(0)
    reader = Reader(load(model).requires_grad_(), reads_on=False)
    found = reader(LessonPack.of(rows))
    (found.letters + found.words + found.sums).backward()
    assert found.num_tokens == 0
    assert all(weight.grad is None for weight in reader.backbone.language_model.parameters())
    assert all(weight.grad is not None for weight in reader.backbone.visual.parameters())


def test_letters_named_rightly_are_counted(reader: Reader, rows: list[Row]) -> None:
    pack = LessonPack.of(rows)
    logits = torch.full((pack.num_patches, len(ALPHABET)), -1.0)
    logits[0, 3] = logits[0, 4] = 1.0
    loss, found = reader._judge_letters(logits, pack.letters)
    assert found.tolist() == [1, 2, 4]
    assert loss > 0


def test_two_pages_are_learnt_by_heart(model: Path, rows: list[Row]) -> None:
    torch.manual_seed(0)
    reader = Reader(load(model).requires_grad_(), reads_on=True)
    pack = LessonPack.of(rows)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        read = reader(pack)
        (read.letters + read.words + read.tokens).backward()
        optimizer.step()
    assert read.found.tolist() == [4, 4, 4]
    assert int(read.right) == read.num_tokens
    cells = pack.cells.unique()
    wanted = torch.zeros(7, CODE_SIZE).index_add_(0, pack.cells, pack.codes)
    named = reader.name_words(pack).detach()
    assert float(torch.cosine_similarity(named[cells], wanted[cells]).min()) > 0.9
