"""Shares a batch out over ranks and packs, so that all finish together: cost is counted after the image's resize."""

import heapq
from collections.abc import Sequence

from moca_rag.costs import count_flops
from moca_rag.pixels import Grid
from moca_rag.shapes import ModelShape

Pack = list[int]  # rows of a batch, by their place in it


def price_row(shape: ModelShape, length: int, grids: Sequence[Grid]) -> float:
    """What a row costs, in text tokens of a short sequence."""
    return count_flops(shape, length, grids) / count_flops(shape, 1)


def share_out(costs: Sequence[float], num_bins: int) -> list[Pack]:
    """Rows over bins, greedily: the costliest first, each into the bin that has least (longest processing time first).

    >>> share_out([5, 3, 2, 2], 2)
    [[0], [1, 2, 3]]
    """
    bins: list[Pack] = [[] for _ in range(num_bins)]
    loads = [(0.0, place) for place in range(num_bins)]
    for row in sorted(range(len(costs)), key=lambda row: (-costs[row], row)):
        load, place = heapq.heappop(loads)
        bins[place].append(row)
        heapq.heappush(loads, (load + costs[row], place))
    return bins


def plan_packs(costs: Sequence[float], num_ranks: int, pack_cost: float) -> list[list[Pack]]:
    """Each rank's packs, as many for one rank as for any other: sharded ranks wait for each other at every pass.

    All packs are balanced at once and dealt out by what they cost, so that those of one pass cost alike. A pack holds rows
    worth `pack_cost` at most; a costlier row stands alone. A rank that has no row for a pass gets an empty pack.
    """
    most = max(pack_cost, *costs, 0.0)
    num_packs = 1
    while True:
        packs = share_out(costs, num_ranks * num_packs)
        loads = [sum(costs[row] for row in pack) for pack in packs]
        if max(loads) <= most:
            break
        num_packs += 1
    dealt = sorted(range(len(packs)), key=lambda place: -loads[place])
    return [[sorted(packs[place]) for place in dealt[rank::num_ranks]] for rank in range(num_ranks)]
