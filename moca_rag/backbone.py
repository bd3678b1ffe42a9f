"""Turns packs of tokens and patches into states: Qwen2.5-VL as a bidirectional encoder, proven when it is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from .attention import PACKED_ATTENTION, count_calls
from .checkpoint import read_values
from .errors import ModelError, one_line
from .inputs import Pack, TokenSequence, VisionTokens, rope_positions
from .pixels import MERGE_SIDE, PATCH_SIDE, PIXEL_MEAN, PIXEL_STD, TEMPORAL_COPIES
from .pooling import mean_pool
from .weights import read_weights

# Single bytes in any byte-level vocabulary: tokens that every model knows.
PROBE_WORDS = range(3, 64)


class PatchProjection(nn.Module):
    """The vision tower's first layer as one matrix product.

    Its Conv3d has a stride equal to its kernel, so each patch meets the kernel once. For uint8 rows the pixel
    normalisation and the sum over the two equal temporal copies are folded into the matrix.
    """

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, rows: Tensor) -> Tensor:
        """States [P, D] from uint8 patch rows [P, 588], or from normalised `pixel_values` [P, 1176]."""
        kernel = self.proj.weight
        if rows.dtype != torch.uint8:
            return nn.functional.linear(rows.to(kernel.dtype), kernel.flatten(1))
        mean, std = (torch.tensor(values, device=kernel.device) for values in (PIXEL_MEAN, PIXEL_STD))
        summed = kernel.float().sum(dim=2) / std.view(3, 1, 1)
        shift = (summed * mean.view(3, 1, 1)).flatten(1).sum(dim=1)
        # Float32 throughout: the product is small beside the tower, and 8-bit pixels deserve exact weights.
        return nn.functional.linear(rows.float(), summed.flatten(1) / 255, -shift).to(kernel.dtype)


class Backbone:
    """A Qwen2.5-VL base model that encodes packs; every sequence of a pack sees itself and nothing else."""

    def __init__(self, model: Any) -> None:
        self.model = model
        # Only now: a name of our own at construction is refused by some versions of transformers.
        for config in (model.config.text_config, model.config.vision_config):
            config._attn_implementation = PACKED_ATTENTION

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        weight: Tensor = self.model.language_model.embed_tokens.weight
        return weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number type it computes in."""
        dtype: torch.dtype = self.model.language_model.embed_tokens.weight.dtype
        return dtype

    @property
    def num_tokens(self) -> int:
        """The rows of its embedding matrix."""
        return int(self.model.config.text_config.vocab_size)

    @property
    def dimension(self) -> int:
        """The length of a token's state."""
        return int(self.model.config.text_config.hidden_size)

    @property
    def vision_tokens(self) -> VisionTokens:
        """The ids that frame and stand for an image."""
        config = self.model.config
        return VisionTokens(config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)

    def encode(self, pack: Pack) -> Tensor:
        """Final-norm states [T, D] of a pack's tokens, text and image alike (MoCa, section 2.1)."""
        device = self.device
        ids = torch.from_numpy(pack.ids).to(device)
        embeds = self.model.language_model.embed_tokens(ids)
        if pack.grids:
            grid = torch.tensor([(1, height, width) for height, width in pack.grids], device=device)
            image = self.model.visual(torch.from_numpy(pack.patches).to(device), grid_thw=grid).pooler_output
            slots = (ids == self.model.config.image_token_id)[:, None]
            embeds = embeds.masked_scatter(slots, image.to(embeds.dtype))
        boundaries = torch.tensor((0, *np.cumsum(pack.lengths)), dtype=torch.int32, device=device)
        # The two parts are called apart: the whole model does not hand sequence boundaries to its text part alone.
        output = self.model.language_model(
            inputs_embeds=embeds[None],
            position_ids=torch.from_numpy(pack.positions).to(device)[:, None],
            cu_seq_lens_q=boundaries,
            max_length_q=max(pack.lengths),
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state[0]
        return states


def load_backbone(folder: Path, device: torch.device, dtype: torch.dtype) -> Backbone:
    """The encoder in a model folder, proven by `prove_backbone`; raises ModelError when it cannot be trusted.

    The model is built without memory and its tensors are put in one by one, so loading never holds it twice.
    """
    config = read_config(folder)
    try:
        model = build_model(config)
    except Exception as error:  # sizes that do not fit together surface anywhere in the model's classes
        raise ModelError(f"{folder / 'config.json'} describes no model ({one_line(error)}): copy it again") from error
    weights = read_weights(folder, model.state_dict(), device, dtype)
    model.load_state_dict(weights, strict=True, assign=True)
    backbone = Backbone(model.to(device).eval())
    prove_backbone(backbone)
    return backbone


def read_config(folder: Path) -> Any:
    """The folder's config, bidirectional; raises ModelError when it is not one of a Qwen2.5-VL that we can feed."""
    path = folder / "config.json"
    values = read_values(folder)
    try:
        config = Qwen2_5_VLConfig.from_dict(values)
    except Exception as error:  # a wrong value surfaces as whatever the config classes stumble over
        raise ModelError(f"{path} is no usable config ({one_line(error)}): copy it again") from error
    vision = config.vision_config
    sides = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size, vision.in_channels)
    if sides != (PATCH_SIDE, MERGE_SIDE, TEMPORAL_COPIES, 3):
        raise ModelError(
            f"{path}: patches of {sides} (side, merge, frames, channels) are not Qwen2.5-VL's (14, 2, 2, 3)"
        )
    special = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)
    if max(special) >= config.text_config.vocab_size:
        raise ModelError(f"{path}: a vocabulary of {config.text_config.vocab_size} tokens lacks the image's {special}")
    if config.text_config.use_sliding_window:
        raise ModelError(f"{path}: a sliding window would hide most of a page: set use_sliding_window to false")
    config.text_config.is_causal = False
    return config


def build_model(config: Any) -> Any:
    """The base model with parameters on the meta device; its rotary tables, which no file holds, are real."""
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = Qwen2_5_VLModel(config)
    model.visual.rotary_pos_emb = type(model.visual.rotary_pos_emb)(config.vision_config)
    model.language_model.rotary_emb = type(model.language_model.rotary_emb)(config.text_config)
    model.visual.patch_embed = PatchProjection(model.visual.patch_embed.proj)
    return model


def prove_backbone(backbone: Backbone) -> None:
    """Refuses, by ModelError, an encoder whose embeddings could not be trusted, in two short forward passes.

    A changed last token must move the first state (bidirectional); other neighbours in the pack must move nothing
    (no leak); there is one attention call a layer; embeddings are finite, unit and differ.
    """
    text, changed, image = _probe_sequences(backbone)
    with torch.inference_mode(), count_calls() as count:
        first_pack, second_pack = [text, changed, text, image], [image, text]
        try:
            first, second = (backbone.encode(Pack.of(pack)).float() for pack in (first_pack, second_pack))
        except Exception as error:  # out of memory, sizes that do not fit, another transformers: the reason says
            raise ModelError(f"the model cannot run ({one_line(error)}): try device='cpu', or copy it again") from error
    size = len(text.ids)
    alone, other, again, picture = torch.split(first, [len(sequence.ids) for sequence in first_pack])
    _check_calls(backbone, count[0], num_passes=2)
    _check_embeddings(mean_pool(first, [len(sequence.ids) for sequence in first_pack]))
    leak = max(_difference(picture, second[:-size]), _difference(alone, second[-size:]))
    if leak > (1e-3 if backbone.dtype == torch.float32 else 5e-2):
        raise ModelError(
            f"sequences in one pack see each other: other neighbours moved the states by {leak:.0e}; "
            "install a transformers version that moca_rag was tested with"
        )
    # Measured inside one pass, where equal sequences differ by nothing but the rounding of their place in it.
    noise, moved = _difference(alone[0], again[0]), _difference(alone[0], other[0])
    if moved <= 1e-5 + 4 * noise:
        raise ModelError(
            f"the model reads in one direction only: another last token moved the first state by {moved:.0e}; "
            "its text layers ignore is_causal=False, so install a transformers version that moca_rag was tested with"
        )


def _probe_sequences(backbone: Backbone) -> tuple[TokenSequence, TokenSequence, TokenSequence]:
    """A text, the same with another last token, and an image of 1 x 5 tokens: two windows, few tokens, little time."""
    tokens = backbone.vision_tokens
    generator = np.random.default_rng(0)
    words = [token for token in PROBE_WORDS if token not in (tokens.start, tokens.pad, tokens.end)]
    ids = np.asarray(generator.choice(words, 5, replace=False), np.int64)
    grid = (MERGE_SIDE, 5 * MERGE_SIDE)
    patches = generator.integers(0, 256, (grid[0] * grid[1], 3 * PATCH_SIDE**2), dtype=np.uint8)
    picture = np.array([tokens.start, *[tokens.pad] * 5, tokens.end, *ids[:2]], np.int64)
    return (
        _sequence(ids[:4], (), patches[:0], tokens.pad),
        _sequence(np.append(ids[:3], ids[4]), (), patches[:0], tokens.pad),
        _sequence(picture, (grid,), patches, tokens.pad),
    )


def _sequence(ids: Any, grids: Sequence[tuple[int, int]], patches: Any, pad: int) -> TokenSequence:
    return TokenSequence(ids, rope_positions(ids == pad, grids), patches, tuple(grids))


def _difference(left: Tensor, right: Tensor) -> float:
    """The median relative change of a number: large language models have a few huge ones that would hide the rest."""
    sizes = (left.abs() + right.abs()).clamp_min(1e-20)
    return float(((left - right).abs() / sizes).median())


def _check_calls(backbone: Backbone, num_calls: int, num_passes: int) -> None:
    config = backbone.model.config
    num_layers = config.text_config.num_hidden_layers + config.vision_config.depth
    if num_calls != num_layers * num_passes:
        raise ModelError(
            f"{num_calls} attention calls where {num_layers} layers make {num_layers * num_passes}: this version of "
            "transformers calls attention in another way, so install one that moca_rag was tested with"
        )


def _check_embeddings(embeddings: Tensor) -> None:
    if not bool(embeddings.isfinite().all()):
        raise ModelError("the model's embeddings are not finite: its weights are broken, so copy it again")
    if not torch.allclose(embeddings.norm(dim=-1), torch.ones(len(embeddings), device=embeddings.device), atol=1e-3):
        raise ModelError("the model's embeddings have no length: its weights are empty, so copy it again")
    if float(embeddings[0] @ embeddings[-1]) > 1 - 1e-6:
        raise ModelError("the model gives a text and a picture one embedding: its weights are broken, so copy it again")
