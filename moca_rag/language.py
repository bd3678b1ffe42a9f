"""Turns token embeddings, of text and images alike, into final states: Qwen2.5-VL's text layers over packed sequences."""

import torch
from torch import Tensor, nn

from .attention import Segments, attend
from .layers import GatedMLP, RMSNorm, make_rotation, rotate
from .products import Linear
from .shapes import TextShape


class TextAttention(nn.Module):
    """Every token sees its whole sequence; in a causal model only what stands before it."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.head_size = shape.head_size
        keys = shape.num_key_value_heads * shape.head_size
        self.q_proj = Linear(shape.hidden_size, shape.hidden_size)
        self.k_proj = Linear(shape.hidden_size, keys)
        self.v_proj = Linear(shape.hidden_size, keys)
        self.o_proj = Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, states: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments, causal: bool) -> Tensor:
        """What attention adds to the states [T, D]."""
        query, key, value = (
            project(states).view(len(states), -1, self.head_size) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = attend(rotate(query, rotation), rotate(key, rotation), value, segments, causal=causal)
        added: Tensor = self.o_proj(seen.flatten(1))
        return added


class TextLayer(nn.Module):
    """One layer of the text model."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = TextAttention(shape)
        self.mlp = GatedMLP(shape.hidden_size, shape.intermediate_size, bias=False)

    def forward(
        self, states: Tensor, rotation: tuple[Tensor, Tensor], segments: Segments, causal: bool = False
    ) -> Tensor:
        """The next states [T, D]."""
        states = states + self.self_attn(self.input_layernorm(states), rotation, segments, causal)
        added: Tensor = self.mlp(self.post_attention_layernorm(states))
        return states + added


class LanguageModel(nn.Module):
    """The text layers of Qwen2.5-VL under their own tensor names."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.shape = shape
        # Uninitialised: drawing normal numbers, even for the meta device, imports the compiler, a second at each start.
        empty = torch.empty(shape.vocab_size, shape.hidden_size)
        self.embed_tokens: nn.Embedding = nn.Embedding.from_pretrained(empty, freeze=False)  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(TextLayer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, embeds: Tensor, positions: Tensor, segments: Segments, causal: bool = False) -> Tensor:
        """Final-norm states [T, D] of packed token embeddings [T, D] at positions [3, T]."""
        rotation = rotate_positions(positions, self.shape, embeds.dtype)
        states = embeds
        for layer in self.layers:
            states = layer(states, rotation, segments, causal)
        final: Tensor = self.norm(states)
        return final


def rotate_positions(positions: Tensor, shape: TextShape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The rotation of heads at positions [3, T]: each axis turns its own section of a head (Qwen2-VL, section 2.1)."""
    device = positions.device
    steps = torch.arange(0, shape.head_size, 2, dtype=torch.float32, device=device)
    frequencies = 1.0 / shape.rope_theta ** (steps / shape.head_size)
    axes = torch.repeat_interleave(
        torch.arange(3, device=device), torch.tensor(shape.mrope_section, device=device), output_size=len(steps)
    )
    cos, sin = make_rotation((positions[axes].float() * frequencies[:, None]).T[:, None])
    return cos.to(dtype), sin.to(dtype)
