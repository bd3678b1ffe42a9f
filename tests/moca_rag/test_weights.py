"""Reading weights part by part; what a folder holds too much or too little is tested with the backbone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from moca_rag import tensors, weights
from moca_rag.errors import ModelError
from moca_rag.weights import read_weights
from tests.small_adapter import bare, stored_tensors
from tests.small_model import write_small_model

CPU = torch.device("cpu")
PARTS = ("language_model.", "visual.")


def part_of(expected: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in expected.items() if name.startswith(part)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_model(tmp_path)


@pytest.fixture
def read_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys whose bytes were asked for."""
    keys: list[str] = []

    class Recorder:
        def __init__(self, file: Any) -> None:
            self.file = file
            self.keys = file.keys

        def get_tensor(self, key: str) -> Tensor:
            keys.append(key)
            tensor: Tensor = self.file.get_tensor(key)
            return tensor

    @contextmanager
    def record(path: Path) -> Iterator[Recorder]:
        with tensors.open_tensors(path) as file:
            yield Recorder(file)

    monkeypatch.setattr(weights, "open_tensors", record)
    return keys


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("options", [{}, {"layout": "old"}, {"shards": 3}])
def test_one_part_is_read_whole_and_of_the_other_no_byte(
    tmp_path: Path, read_keys: list[str], part: str, options: dict[str, Any]
) -> None:
    stored = part_of(stored_tensors(write_small_model(tmp_path, **options)), part)
    got = read_weights(bare(tmp_path), stored, CPU, torch.float32)
    torch.testing.assert_close(got, stored, atol=0, rtol=0)
    assert {tensors.translate_key(key) for key in read_keys} == set(stored)
    assert len(read_keys) == len(stored)


def test_both_parts_at_once_are_the_two_read_apart(folder: Path) -> None:
    stored = stored_tensors(folder)
    together = read_weights(bare(folder), stored, CPU, torch.float32)
    apart = [read_weights(bare(folder), part_of(stored, part), CPU, torch.float32) for part in PARTS]
    torch.testing.assert_close(together, apart[0] | apart[1], atol=0, rtol=0)


def test_a_part_is_judged_by_its_own_tensors_only(folder: Path) -> None:
    stored = stored_tensors(folder)
    held = load_file(folder / "model.safetensors")
    held["model.visual.merger.mlp.0.weight"].fill_(torch.nan)
    held["model.visual.blocks.9.norm1.weight"] = torch.ones(3)
    save_file(held, folder / "model.safetensors")
    read_weights(bare(folder), part_of(stored, "language_model."), CPU, torch.float32)
    with pytest.raises(ModelError, match=r"visual\.merger\.mlp\.0\.weight holds NaN"):
        read_weights(bare(folder), part_of(stored, "visual."), CPU, torch.float32)


def test_what_no_encoder_uses_is_said_once_for_both_parts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = stored_tensors(folder)
    held = load_file(folder / "model.safetensors")
    held |= {"custom_text_proj.weight": torch.ones(2), "model.mae_decoder.norm.weight": torch.ones(2)}
    save_file(held | {"model.layers.0.rotary_emb.inv_freq": torch.ones(2)}, folder / "model.safetensors")
    for part in PARTS:
        read_weights(bare(folder), part_of(stored, part), CPU, torch.float32)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "passed over 1 tensors that no encoder uses, such as custom_text_proj.weight"
    ]


@pytest.mark.parametrize("stored_as", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("asked", [torch.float32, torch.bfloat16])
def test_every_stored_type_comes_in_the_type_that_was_asked_for(
    tmp_path: Path, stored_as: torch.dtype, asked: torch.dtype
) -> None:
    stored = stored_tensors(write_small_model(tmp_path, dtype=stored_as))
    got = read_weights(bare(tmp_path), stored, CPU, asked)
    torch.testing.assert_close(got, {name: tensor.to(asked) for name, tensor in stored.items()}, atol=0, rtol=0)


def test_weights_stay_as_they_were_read_when_the_file_is_written_anew(folder: Path) -> None:
    stored = {name: tensor.clone() for name, tensor in stored_tensors(folder).items()}
    got = read_weights(bare(folder), stored, CPU, torch.float32)
    path = folder / "model.safetensors"
    with path.open("r+b") as file:  # in the same place, as some copying tools write
        size = path.stat().st_size
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    torch.testing.assert_close(got, stored, atol=0, rtol=0)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64])
def test_a_file_that_is_not_whole_is_named(folder: Path, content: bytes) -> None:
    stored = {name: tensor.clone() for name, tensor in stored_tensors(folder).items()}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file .*: copy it again"):
        read_weights(bare(folder), stored, CPU, torch.float32)
