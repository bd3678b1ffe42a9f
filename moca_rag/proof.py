"""Proves, in two short forward passes a part, that a loaded encoder can be trusted; refuses it by ModelError.

A changed last token must move the first state (bidirectional), and must not in a causal model; other neighbours in the
pack must move nothing (no leak); there is one attention call a layer; embeddings are finite, unit and differ.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .attention import count_calls
from .errors import ModelError, one_line
from .inputs import Pack, TokenSequence, rope_positions
from .pixels import MERGE_SIDE, PATCH_SIDE, Grid
from .pooling import mean_pool

if TYPE_CHECKING:
    from .backbone import Backbone

# Single bytes in any byte-level vocabulary: tokens that every model knows.
PROBE_WORDS = range(3, 64)


def prove_text(backbone: "Backbone") -> None:
    """Prove the text layers: they read in the directions that they should, and every text reads itself alone."""
    words = _probe_words(backbone)
    text, changed = _text(words[:4]), _text(np.append(words[:3], words[4]))
    states, other = _run(backbone, [[text, changed, text], [changed, text]], backbone.shape.text.num_hidden_layers)
    alone, moved, again = states
    _check_embeddings(states)
    _check_leak(backbone, [(alone, other[1]), (moved, other[0])])
    # Measured inside one pass, where equal sequences differ by nothing but the rounding of their place in it.
    noise, change = _difference(alone[0], again[0]), _difference(alone[0], moved[0])
    moves = change > 1e-5 + 4 * noise
    if moves and backbone.causal:
        raise ModelError(
            f"the model is causal by its settings, but another last token moved the first state by {change:.0e}; "
            "its attention kernel is broken: `moca doctor` names it"
        )
    if not moves and not backbone.causal:
        raise ModelError(
            f"the model reads in one direction only: another last token moved the first state by {change:.0e}; "
            "its weights or its attention kernel are broken"
        )


def prove_vision(backbone: "Backbone") -> None:
    """Prove the vision tower: a picture's states depend on its pixels, and on no neighbour of it in the pack."""
    words = _probe_words(backbone)
    text, picture, second = _text(words[:4]), *_pictures(backbone, words[:2])
    states, other = _run(backbone, [[text, picture, second], [picture, text]], backbone.shape.num_layers)
    _check_embeddings(states)
    _check_leak(backbone, [(states[0], other[1]), (states[1], other[0])])


def _probe_words(backbone: "Backbone") -> Any:
    tokens = backbone.shape.tokens
    words = [token for token in PROBE_WORDS if token not in (tokens.start, tokens.pad, tokens.end)]
    return np.asarray(np.random.default_rng(0).choice(words, 5, replace=False), np.int64)


def _text(ids: Any) -> TokenSequence:
    return TokenSequence(ids, rope_positions(ids < 0, ()), np.zeros((0, 3 * PATCH_SIDE**2), np.uint8), ())


def _pictures(backbone: "Backbone", words: Any) -> list[TokenSequence]:
    """Two images of 1 x 5 tokens: two windows, few tokens, little time."""
    tokens, generator = backbone.shape.tokens, np.random.default_rng(0)
    grid = Grid(MERGE_SIDE, 5 * MERGE_SIDE)
    ids = np.array([tokens.start, *[tokens.pad] * 5, tokens.end, *words], np.int64)
    shape = (grid.num_patches, 3 * PATCH_SIDE**2)
    patches = [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
    return [TokenSequence(ids, rope_positions(ids == tokens.pad, [grid]), rows, (grid,)) for rows in patches]


def _run(backbone: "Backbone", packs: Sequence[list[TokenSequence]], num_layers: int) -> list[list[Tensor]]:
    """The states of each sequence of each pack, from one attention call a layer and pack."""
    with torch.inference_mode(), count_calls() as count:
        try:
            states = [backbone(Pack.of(pack)).float() for pack in packs]
        except ModelError:
            raise
        except Exception as error:  # out of memory, a kernel that does not run here: the reason says
            raise ModelError(f"the model cannot run ({one_line(error)}): try device='cpu', or copy it again") from error
    if count[0] != len(packs) * num_layers:
        raise ModelError(f"{count[0]} attention calls where {num_layers} layers make {len(packs) * num_layers}")
    return [
        list(torch.split(state, [len(part.ids) for part in pack])) for state, pack in zip(states, packs, strict=True)
    ]


def _check_leak(backbone: "Backbone", pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    leak = max(_difference(left, right) for left, right in pairs)
    if leak > (1e-3 if backbone.dtype == torch.float32 else 5e-2):
        raise ModelError(
            f"sequences in one pack see each other: other neighbours moved the states by {leak:.0e}; "
            "the attention kernel is broken: `moca doctor` names it"
        )


def _difference(left: Tensor, right: Tensor) -> float:
    """The median relative change of a number: large language models have a few huge ones that would hide the rest."""
    sizes = (left.abs() + right.abs()).clamp_min(1e-20)
    return float(((left - right).abs() / sizes).median())


def _check_embeddings(states: Sequence[Tensor]) -> None:
    embeddings = mean_pool(torch.cat(list(states)), [len(part) for part in states])
    if not bool(embeddings.isfinite().all()):
        raise ModelError("the model's embeddings are not finite: its weights are broken, so copy it again")
    if not torch.allclose(embeddings.norm(dim=-1), torch.ones(len(embeddings), device=embeddings.device), atol=1e-3):
        raise ModelError("the model's embeddings have no length: its weights are empty, so copy it again")
    if float(embeddings[0] @ embeddings[1]) > 1 - 1e-6:
        raise ModelError("the model gives two inputs one embedding: its weights are broken, so copy it again")
