"""One process or many: joins the ranks that torchrun started, shards a model over them, adds figures up."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

# Dense bf16 products of a device by its data sheet, in TFLOP/s, the longer name first: what MFU is a share of.
PEAKS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0, "GH200": 989.0, "B200": 2250.0}
PEAKS |= {"H800": 989.0, "A100": 312.0, "A800": 312.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0}


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its fellows; `mesh` is None where one process keeps the whole model."""

    rank: int
    number: int
    device: torch.device
    mesh: DeviceMesh | None

    @property
    def peak(self) -> float | None:
        """What the devices of all ranks could do at most, in TFLOP/s; None where it is not known."""
        peak = find_peak(torch.cuda.get_device_name(self.device)) if self.device.type == "cuda" else None
        return peak and peak * self.number

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes and reports."""
        return self.rank == 0

    def add_up(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Each figure summed over all ranks, which must name the same ones."""
        if self.number == 1:
            return dict(figures)
        sums = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return dict(zip(figures, sums.tolist(), strict=True))

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.number > 1:
            dist.barrier()


def join_ranks(device: str | None = None) -> Ranks:
    """The ranks of `torchrun`, or this process alone. A GPU is sharded even if it is alone: bf16 over fp32 masters."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rank, number = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if kind == "cpu" and number == 1:
        return Ranks(0, 1, torch.device("cpu"), None)
    place = torch.device("cpu") if kind == "cpu" else torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if not dist.is_initialized():
        backend = "gloo" if kind == "cpu" else "nccl"
        if number == 1:
            dist.init_process_group(
                backend,
                store=torch.distributed.HashStore(),  # type: ignore[attr-defined]
                rank=0,
                world_size=1,
            )
        else:
            dist.init_process_group(backend)
    return Ranks(rank, number, place, init_device_mesh(place.type, (number,)))


def find_peak(name: str) -> float | None:
    """The peak of a device by its name.

    >>> find_peak("NVIDIA H200"), find_peak("NVIDIA H100 PCIe"), find_peak("NVIDIA GeForce GTX 1080")
    (989.0, 756.0, None)
    """
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def leave_ranks() -> None:
    """End what `join_ranks` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(module: nn.Module, layers: Iterable[nn.Module], ranks: Ranks) -> None:
    """Spread the parameters of a float32 module over all ranks, layer by layer; computed in bf16 on GPUs (FSDP2)."""
    if ranks.mesh is None:
        return
    half = torch.bfloat16 if ranks.device.type == "cuda" else torch.float32
    options: dict[str, Any] = {
        "mesh": ranks.mesh,
        "mp_policy": MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False),
    }
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(module, **options)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded; every rank must ask."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def fill(target: Tensor, source: Tensor) -> None:
    """Write a whole tensor into one that may be sharded; every rank must bring the same."""
    with torch.no_grad():
        if isinstance(target, DTensor):
            source = distribute_tensor(source.to(target.device, target.dtype), target.device_mesh, target.placements)
        target.copy_(source)
