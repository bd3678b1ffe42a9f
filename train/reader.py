"""A vision-language model with the heads that dense lessons need: letters of patches, words of visual tokens, next tokens.

A visual token itself is taught to be what stands in its cell: the sum of the embeddings of the text tokens printed there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from moca_rag.backbone import Backbone
from moca_rag.inputs import Pack, TokenSequence
from moca_rag.pixels import PATCHES_PER_TOKEN
from moca_rag.products import Linear

from .letters import ALPHABET, CODE_SIZE, Lesson, code_words

NO_TARGET = -100


@dataclass(frozen=True, slots=True, eq=False)
class LessonPack:
    """Pages end to end and what stands on them: letters [K, 2], cells [N] and codes [N, 256] of words, and pairs [M, 2] of
    a visual token and a text token in its cell.

    Of sequences with a text after their picture the next token is learnt, too.
    """

    pack: Pack
    letters: Tensor
    cells: Tensor
    codes: Tensor
    words: tuple[str, ...]
    tokens: Tensor

    @classmethod
    def of(cls, rows: Sequence[tuple[TokenSequence, Lesson]]) -> "LessonPack":
        """The pages in one row, in order."""
        starts = np.cumsum([0, *(len(sequence.patches) for sequence, _ in rows)])
        letters = [lesson.letters + np.array([start, 0]) for (_, lesson), start in zip(rows, starts, strict=False)]
        cells = [lesson.cells + start // PATCHES_PER_TOKEN for (_, lesson), start in zip(rows, starts, strict=False)]
        tokens = [
            lesson.tokens + np.array([start // PATCHES_PER_TOKEN, 0])
            for (_, lesson), start in zip(rows, starts, strict=False)
        ]
        words = tuple(word for _, lesson in rows for word in lesson.words)
        return cls(
            pack=Pack.of([sequence for sequence, _ in rows]),
            letters=torch.from_numpy(np.concatenate(letters)).long(),
            cells=torch.from_numpy(np.concatenate(cells)).long(),
            codes=torch.from_numpy(code_words(words)),
            words=words,
            tokens=torch.from_numpy(np.concatenate(tokens)).long(),
        )

    @property
    def num_patches(self) -> int:
        """Patches of all pages."""
        return len(self.pack.patches)


class Readings(NamedTuple):
    """What was made of a pack: losses as sums, and how often the letters and tokens were right."""

    letters: Tensor
    words: Tensor
    sums: Tensor
    """Squared errors of visual tokens against the sums of the text tokens in their cells."""
    tokens: Tensor
    num_tokens: int
    found: Tensor
    """Letters named rightly, named, and there."""
    right: Tensor
    """Next tokens guessed rightly."""


class Reader(nn.Module):
    """A backbone, a head for the letters of a patch and one for the words of a visual token."""

    def __init__(self, backbone: Backbone, *, reads_on: bool) -> None:
        """`reads_on`: whether the text layers learn, too; without them only the vision tower runs."""
        super().__init__()
        self.backbone = backbone
        self.reads_on = reads_on
        vision, text = backbone.shape.vision, backbone.shape.text
        self.letter_head = Linear(vision.hidden_size, len(ALPHABET))
        self.word_head = Linear(PATCHES_PER_TOKEN * vision.hidden_size, CODE_SIZE)
        self.state_head = Linear(text.hidden_size, CODE_SIZE) if reads_on else None
        for head in (self.letter_head, self.word_head, self.state_head):
            if head is not None:
                nn.init.normal_(head.weight, std=0.02)
                nn.init.zeros_(head.bias)
        nn.init.constant_(self.letter_head.bias, -4.0)  # few letters stand in a patch: near their rate from the start

    def forward(self, lessons: LessonPack) -> Readings:
        """The losses of a pack, as sums over patches, visual tokens and text tokens."""
        device = self.backbone.device
        pack = lessons.pack
        patches, joined, tokens = self.backbone.visual.read(torch.from_numpy(pack.patches).to(device), pack.grids)
        letters, found = self._judge_letters(self.letter_head(patches), lessons.letters.to(device))
        wanted = torch.zeros(len(tokens), CODE_SIZE, device=device)
        wanted.index_add_(0, lessons.cells.to(device), lessons.codes.to(device))
        words = (self.word_head(joined).float() - wanted).square().sum()
        sums = (tokens.float() - self._sum_tokens(lessons.tokens.to(device), len(tokens))).square().sum()
        none = tokens.new_zeros((), dtype=torch.float32)
        if self.state_head is None:
            return Readings(letters, words, sums, none, 0, found, none)
        states = self.backbone.read_on(pack, tokens)
        slots = torch.from_numpy(np.flatnonzero(pack.ids == self.backbone.shape.tokens.pad)).to(device)
        words = (words + (self.state_head(states[slots]).float() - wanted).square().sum()) / 2
        loss, num_tokens, right = self._read_on(states, self._find_targets(pack).to(device))
        return Readings(letters, words, sums, loss, num_tokens, found, right)

    def name_words(self, lessons: LessonPack) -> Tensor:
        """The code [M, 256] that each visual token of a pack gives for the words in its cell."""
        patches = torch.from_numpy(lessons.pack.patches).to(self.backbone.device)
        _, joined, _ = self.backbone.visual.read(patches, lessons.pack.grids)
        codes: Tensor = self.word_head(joined).float()
        return codes

    def _judge_letters(self, logits: Tensor, letters: Tensor) -> tuple[Tensor, Tensor]:
        wanted = torch.zeros_like(logits, dtype=torch.float32)
        wanted[letters[:, 0], letters[:, 1]] = 1.0
        loss = functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="sum")
        with torch.no_grad():
            named = logits > 0
            found = torch.stack([(named & (wanted > 0)).sum(), named.sum(), wanted.sum().long()])
        return loss, found

    def _find_targets(self, pack: Pack) -> Tensor:
        """For each token the id of the next, where that is a text's after its picture; NO_TARGET elsewhere."""
        tokens = self.backbone.shape.tokens
        following = np.append(pack.ids[1:], 0)
        ends = np.cumsum(pack.lengths) - 1
        kept = ~np.isin(pack.ids, [tokens.start, tokens.pad]) & ~np.isin(following, [tokens.start, tokens.pad])
        kept[ends] = False
        return torch.from_numpy(np.where(kept, following, NO_TARGET))

    def _sum_tokens(self, pairs: Tensor, num_cells: int) -> Tensor:
        """What each visual token [M, D] is to be: the embedding of an empty slot, and what each printed text token adds."""
        table = self.backbone.language_model.embed_tokens.weight.detach().float()
        nothing = table[self.backbone.shape.tokens.pad]
        return nothing.repeat(num_cells, 1).index_add_(0, pairs[:, 0], table[pairs[:, 1]] - nothing)

    def _read_on(self, states: Tensor, targets: Tensor) -> tuple[Tensor, int, Tensor]:
        kept = targets != NO_TARGET
        logits = functional.linear(states[kept], self.backbone.language_model.embed_tokens.weight).float()
        loss = functional.cross_entropy(logits, targets[kept], reduction="sum")
        right = (logits.argmax(dim=-1) == targets[kept]).sum()
        return loss, len(logits), right
