"""Embeds text queries with numpy alone: torch takes longer to import than the rest of a search takes together.

A small model's text layers are a few products a token. They stand here a second time, held to those of `language.py` by
the tests; what is not an everyday small model is left to the `Embedder`, which also says what is wrong with it.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np

from .checkpoint import Checkpoint, list_weights, read_settings, read_values
from .errors import ModelError
from .inputs import SequenceBuilder, check_tokenizer, load_tokenizer
from .records import Floats, Ids, ModelCard
from .shapes import TextShape, read_shape
from .tensors import PARTS, open_tensors, translate_key

MOST_WEIGHTS = 32 * 2**20  # of the text layers: where torch's own products begin to pay for its import
STORED = ("F16", "F32")  # as safetensors names them; numpy knows no bfloat16


class TextQueryEncoder:
    """The text layers of one small bidirectional model, in float32."""

    def __init__(
        self, shape: TextShape, weights: Mapping[str, Floats], builder: SequenceBuilder, card: ModelCard
    ) -> None:
        """`weights` by the names of `LanguageModel`; see `open`."""
        self._shape, self._weights = shape, weights
        self._builder, self._card = builder, card

    @classmethod
    def open(cls, checkpoint: Checkpoint, card: ModelCard) -> Self | None:
        """None where the model is large, causal, adapted, stored in another type, or not as it should be."""
        shape = read_shape(checkpoint.folder / "config.json", read_values(checkpoint))
        if checkpoint.adapter or card.pooling != "mean":
            return None
        expected = list_tensors(shape.text)
        if sum(int(np.prod(size)) for size in expected.values()) > MOST_WEIGHTS:
            return None
        weights = read_arrays(checkpoint, expected)
        if weights is None:
            return None
        settings = read_settings(checkpoint)
        tokenizer = load_tokenizer(checkpoint.file("tokenizer.json"))
        check_tokenizer(tokenizer, shape.tokens, shape.text.vocab_size)
        return cls(
            shape.text, weights, SequenceBuilder(tokenizer, shape.tokens, card.pixels, settings.max_tokens), card
        )

    def encode(self, text: str) -> Floats:
        """The unit embedding [D] of a text that is not empty, as `Embedder.encode_queries` has it to 1e-5."""
        sequence = self._builder.build([self._card.query_prompt + text])
        mean = self._run(sequence.ids, sequence.positions[0]).mean(axis=0)[: self._card.dimension]
        unit: Floats = mean / np.linalg.norm(mean)
        return unit

    def _run(self, ids: Ids, places: Ids) -> Floats:
        """Final-norm states [L, D]: `LanguageModel.forward` of one text, whose three axes of positions are equal."""
        shape, weights = self._shape, self._weights
        rotation = rotate_places(places, shape)
        states = weights["embed_tokens.weight"][ids]
        for number in range(shape.num_hidden_layers):
            layer = f"layers.{number}."
            states = states + self._attend(self._normalize(states, layer + "input_layernorm"), layer, rotation)
            inner = self._normalize(states, layer + "post_attention_layernorm")
            gate = self._project(inner, layer + "mlp.gate_proj")
            opened = gate / (1 + np.exp(-gate)) * self._project(inner, layer + "mlp.up_proj")
            states = states + self._project(opened, layer + "mlp.down_proj")
        return self._normalize(states, "norm")

    def _attend(self, states: Floats, layer: str, rotation: tuple[Floats, Floats]) -> Floats:
        heads, groups = self._shape.num_attention_heads, self._shape.num_key_value_heads
        query, key, value = (
            self._project(states, f"{layer}self_attn.{name}_proj").reshape(len(states), -1, self._shape.head_size)
            for name in "qkv"
        )
        query, key = turn(query, rotation), turn(key, rotation)
        key, value = (np.repeat(part, heads // groups, axis=1) for part in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / np.float32(np.sqrt(self._shape.head_size))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        seen = np.einsum("hqk,khd->qhd", shares, value).reshape(len(states), -1)
        return self._project(seen, f"{layer}self_attn.o_proj")

    def _project(self, states: Floats, name: str) -> Floats:
        rows: Floats = states @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return rows if bias is None else rows + bias

    def _normalize(self, states: Floats, name: str) -> Floats:
        square = np.square(states).mean(axis=-1, keepdims=True)
        rows: Floats = states / np.sqrt(square + np.float32(self._shape.rms_norm_eps)) * self._weights[f"{name}.weight"]
        return rows


def list_tensors(shape: TextShape) -> dict[str, tuple[int, ...]]:
    """The tensors of the text layers by the names of `LanguageModel`, and their sizes."""
    size, inner, keys = shape.hidden_size, shape.intermediate_size, shape.num_key_value_heads * shape.head_size
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (size,),
        "post_attention_layernorm.weight": (size,),
        "self_attn.q_proj.weight": (size, size),
        "self_attn.q_proj.bias": (size,),
        "self_attn.k_proj.weight": (keys, size),
        "self_attn.k_proj.bias": (keys,),
        "self_attn.v_proj.weight": (keys, size),
        "self_attn.v_proj.bias": (keys,),
        "self_attn.o_proj.weight": (size, size),
        "mlp.gate_proj.weight": (inner, size),
        "mlp.up_proj.weight": (inner, size),
        "mlp.down_proj.weight": (size, inner),
    }
    layers = {
        f"layers.{number}.{name}": sizes for number in range(shape.num_hidden_layers) for name, sizes in layer.items()
    }
    return {"embed_tokens.weight": (shape.vocab_size, size), **layers, "norm.weight": (size,)}


def read_arrays(checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Floats] | None:
    """The expected tensors in float32; None where one is missing, of another size or type, or not finite."""
    arrays: dict[str, Floats] = {}
    try:
        for path in list_weights(checkpoint.folder):
            with open_tensors(path, "numpy") as file:
                for stored in file.keys():  # noqa: SIM118 (the file is no mapping)
                    name = translate_key(stored).removeprefix(PARTS[0])
                    if name not in expected:
                        continue
                    if file.get_slice(stored).get_dtype() not in STORED:
                        return None
                    arrays[name] = file.get_tensor(stored).astype(np.float32)
    except ModelError:
        return None
    whole = arrays.keys() == expected.keys() and all(arrays[name].shape == size for name, size in expected.items())
    return arrays if whole and all(np.isfinite(array).all() for array in arrays.values()) else None


def rotate_places(places: Ids, shape: TextShape) -> tuple[Floats, Floats]:
    """Cosines and signed sines [L, 1, head size] of a text's places: the first half of a head turns against the second."""
    steps = np.arange(0, shape.head_size, 2, dtype=np.float32) / np.float32(shape.head_size)
    angles = places[:, None, None].astype(np.float32) * np.float32(shape.rope_theta) ** -steps
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate((cos, cos), axis=-1), np.concatenate((-sin, sin), axis=-1)


def turn(heads: Floats, rotation: tuple[Floats, Floats]) -> Floats:
    """Heads [L, H, head size] turned by their tokens' angles."""
    cos, sin = rotation
    turned: Floats = heads * cos + np.roll(heads, heads.shape[-1] // 2, axis=-1) * sin
    return turned
