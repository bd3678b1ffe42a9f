"""Pages through transformers' own Qwen2.5-VL: one at a time as the released code does it, and padded at its best."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from moca_rag.backbone import Backbone
from moca_rag.inputs import TokenSequence
from moca_rag.records import Floats, Pixels

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A page as transformers wants it: token ids [L], `pixel_values` [P, 1176] and its grid."""

    ids: Tensor
    pixel_values: Tensor
    grid: Tensor


def share_weights(backbone: Backbone, config: Any, attention: str) -> Any:
    """The model of transformers over the very tensors of ours, made bidirectional by its config."""
    config._attn_implementation = attention
    config.text_config.is_causal = False
    with torch.device("meta"):
        model = Qwen2_5_VLModel(config)
    model.load_state_dict(backbone.state_dict(), strict=True, assign=True)
    model.visual.rotary_pos_emb = type(model.visual.rotary_pos_emb)(config.vision_config)
    model.language_model.rotary_emb = type(model.language_model.rotary_emb)(config.text_config)
    for layer in model.language_model.layers:
        layer.self_attn.is_causal = False
    return model.to(backbone.device).eval()


def list_attentions() -> list[str]:
    """What transformers can run here: SDPA always, flash-attn where the package is installed."""
    flash = importlib.util.find_spec("flash_attn") is not None and torch.cuda.is_available()
    return ["sdpa", "flash_attention_2"] if flash else ["sdpa"]


def prepare(sequence: TokenSequence | Prepared, image: Pixels) -> Prepared:
    """Our token ids, and the pixels of transformers' stock processor: the resize finds nothing to do."""
    processor = Qwen2VLImageProcessorPil(do_resize=True, min_pixels=1, max_pixels=10**9)
    found = processor([image], input_data_format="channels_last", return_tensors="pt")
    return Prepared(torch.as_tensor(sequence.ids), found["pixel_values"], found["image_grid_thw"])


def embed_batches(model: Any, pages: Sequence[Prepared], batch_size: int, pad: int) -> Iterator[Floats]:
    """Unit embeddings [N, D] of batches of pages, padded on the right to their longest."""
    device, dtype = model.device, model.dtype
    for start in range(0, len(pages), batch_size):
        batch = pages[start : start + batch_size]
        longest = max(len(page.ids) for page in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, page in enumerate(batch):
            ids[row, : len(page.ids)], mask[row, : len(page.ids)] = page.ids, 1
        kinds = (ids == pad).int()
        mask_here = None if bool(mask.all()) else mask.to(device)
        with torch.inference_mode():
            states = model(
                input_ids=ids.to(device),
                attention_mask=mask_here,
                pixel_values=torch.cat([page.pixel_values for page in batch]).to(device, dtype),
                image_grid_thw=torch.cat([page.grid for page in batch]).to(device),
                mm_token_type_ids=kinds.to(device),
                use_cache=False,
            ).last_hidden_state.float()
            weights = mask.to(device)[..., None]
            means = (states * weights).sum(dim=1) / weights.sum(dim=1)
            yield torch.nn.functional.normalize(means, dim=-1).cpu().numpy()


def embed_padded(model: Any, pages: Sequence[Prepared], batch_size: int, pad: int) -> Floats:
    """Unit embeddings [N, D] in the order given, computed sorted by length, so that little is padded."""
    order = sorted(range(len(pages)), key=lambda index: len(pages[index].ids))
    rows = np.concatenate(list(embed_batches(model, [pages[index] for index in order], batch_size, pad)))
    embeddings = np.empty_like(rows)
    embeddings[order] = rows
    return embeddings
