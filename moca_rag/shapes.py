"""What a config.json says of a Qwen2.5-VL model: its sizes and token ids, in any layout since the first; no torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import ModelError
from .pixels import MERGE_SIDE, PATCH_SIDE, TEMPORAL_COPIES

# What transformers takes where a config.json is silent, as the folders that it writes leave out what equals these.
PATCH_SIZES = {
    "patch_size": PATCH_SIDE,
    "spatial_merge_size": MERGE_SIDE,
    "temporal_patch_size": TEMPORAL_COPIES,
    "in_channels": 3,
}
VISION_TOKENS = {"vision_start_token_id": 151_652, "image_token_id": 151_655, "vision_end_token_id": 151_653}


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of the text layers, by the names of config.json; `mrope_section` splits half a head over three axes."""

    vocab_size: int = 152_064
    hidden_size: int = 8192
    intermediate_size: int = 29_568
    num_hidden_layers: int = 80
    num_attention_heads: int = 64
    num_key_value_heads: int = 8
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1_000_000.0
    mrope_section: tuple[int, ...] = (16, 24, 24)

    @property
    def head_size(self) -> int:
        """The length of one head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True)
class VisionShape:
    """Sizes of the vision tower, by the names of config.json; `window_size` is in pixels."""

    depth: int = 32
    hidden_size: int = 3584
    intermediate_size: int = 3420
    num_heads: int = 16
    out_hidden_size: int = 3584
    window_size: int = 112
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    rope_theta: float = 10_000.0

    @property
    def head_size(self) -> int:
        """The length of one head."""
        return self.hidden_size // self.num_heads

    @property
    def window_side(self) -> int:
        """How many merged tokens a window is wide and high."""
        return self.window_size // (PATCH_SIDE * MERGE_SIDE)


@dataclass(frozen=True, slots=True)
class VisionTokens:
    """The ids that frame and stand for an image in a token sequence."""

    start: int
    pad: int
    end: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A whole model's sizes."""

    text: TextShape
    vision: VisionShape
    tokens: VisionTokens

    @property
    def num_layers(self) -> int:
        """The layers of both parts, each with one attention."""
        return self.text.num_hidden_layers + self.vision.depth


def read_shape(path: Path, values: dict[str, Any]) -> ModelShape:
    """The shape in the values of the config.json at `path`; raises ModelError on one that we cannot run."""
    text = values.get("text_config", values)
    vision = values.get("vision_config", {})
    if not isinstance(vision, dict):
        raise ModelError(f"{path} is no usable config (vision_config is {vision!r}): copy it again")
    _refuse_strangers(path, text, vision)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    heads = text.get("num_attention_heads", TextShape().num_attention_heads)
    shape = ModelShape(
        text=_fill(
            path,
            TextShape,
            {
                **text,
                "num_key_value_heads": text.get("num_key_value_heads", TextShape().num_key_value_heads) or heads,
                "rope_theta": rope.get("rope_theta", text.get("rope_theta", TextShape().rope_theta)),
                "mrope_section": rope.get("mrope_section", TextShape().mrope_section),
            },
        ),
        vision=_fill(
            path,
            VisionShape,
            {**vision, "rope_theta": (vision.get("rope_parameters") or {}).get("rope_theta", VisionShape().rope_theta)},
        ),
        tokens=VisionTokens(*(values.get(name, default) for name, default in VISION_TOKENS.items())),
    )
    _check_sizes(path, shape)
    return shape


def _refuse_strangers(path: Path, text: dict[str, Any], vision: dict[str, Any]) -> None:
    """What another model of the family may say and this encoder does not do."""
    vision = {**vision, "in_channels": vision.get("in_channels", vision.get("in_chans", 3))}
    sides = tuple(vision.get(name, size) for name, size in PATCH_SIZES.items())
    if sides != tuple(PATCH_SIZES.values()):
        raise ModelError(
            f"{path}: patches of {sides} (side, merge, frames, channels) are not Qwen2.5-VL's (14, 2, 2, 3)"
        )
    if text.get("use_sliding_window") or "sliding_attention" in (text.get("layer_types") or ()):
        raise ModelError(f"{path}: a sliding window would hide most of a page: set use_sliding_window to false")
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise ModelError(f"{path} describes no model that we can run: positions of the type {kind!r}, not 'mrope'")
    for part in (text, vision):
        if part.get("hidden_act", "silu") != "silu":
            raise ModelError(f"{path} describes no model that we can run: the activation {part['hidden_act']!r}")


def _fill(path: Path, kind: type[Any], values: dict[str, Any]) -> Any:
    """The dataclass from the values that it knows, each of its default's type and above zero."""
    filled = {}
    for field in fields(kind):
        value = values.get(field.name, field.default)
        if isinstance(field.default, tuple):
            fits = isinstance(value, list | tuple) and all(type(item) is int and item >= 0 for item in value)
            value = tuple(value) if fits else value
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            fits = fits and (isinstance(field.default, float) or isinstance(value, int))
        if not fits:
            raise ModelError(f"{path} is no usable config ({field.name} is {value!r}): copy it again")
        filled[field.name] = value
    return kind(**filled)


def _check_sizes(path: Path, shape: ModelShape) -> None:
    text, vision, tokens = shape.text, shape.vision, shape.tokens
    special = (tokens.start, tokens.pad, tokens.end)
    if not all(type(token) is int and 0 <= token < text.vocab_size for token in special):
        raise ModelError(f"{path}: a vocabulary of {text.vocab_size} tokens lacks the image's {special}")
    wrong = {
        f"{text.hidden_size} numbers in {text.num_attention_heads} heads": text.hidden_size % text.num_attention_heads,
        f"{text.num_attention_heads} heads over {text.num_key_value_heads} keys": text.num_attention_heads
        % text.num_key_value_heads,
        f"{vision.hidden_size} numbers in {vision.num_heads} heads of the tower": vision.hidden_size % vision.num_heads,
        f"heads of {vision.head_size} numbers in the tower": vision.head_size % 4,
        f"positions split {text.mrope_section} over heads of {text.head_size} numbers": len(text.mrope_section) != 3
        or 2 * sum(text.mrope_section) != text.head_size,
        f"a tower that gives {vision.out_hidden_size} numbers where the text layers read {text.hidden_size}": (
            vision.out_hidden_size != text.hidden_size
        ),
        f"windows of {vision.window_size} pixels": vision.window_side < 1,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise ModelError(f"{path} describes no model: {what}; copy it again")
