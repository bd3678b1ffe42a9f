"""Stage two: pairs of query and page teach the encoder which page answers, against the rest of the batch.

moca train cl CONFIG [key=value ...]
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import Checkpoint
from moca_rag.costs import count_flops
from moca_rag.errors import ConfigError
from moca_rag.inputs import Pack, TokenSequence
from moca_rag.pooling import pool_regions

from .checkpoints import find_newest, read_tensors
from .contrast import accuracy, info_nce, mask_duplicates, matryoshka_nce, place_positives
from .crew import Crew
from .gradcache import gather_with_grad, grad_cache
from .loop import Batch, Place
from .lora import add_lora, restore_lora, split_lora, write_adapter
from .mixture import Fault, Mixture, open_mixtures
from .ranks import Ranks, shard
from .readers import Pair, PairReader, open_pair_rows
from .rows import PairRow
from .settings import ClSettings
from .sources import open_pairs
from .stage import Frame, compute_half, find_start, list_layers, load_trainable, make_padding, write_model
from .tasks import TaskBatches, split_ranks
from .tutor import Told, Tutor

HELD_OUT_PAIRS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """This rank's part of a batch: chunks of sequences, all queries before all documents, and how they belong together.

    `asked` [n] are the queries of each pair and `counts` [n] its documents, the positive first; `hashes` [m] tell equal
    documents.
    """

    chunks: tuple[tuple[TokenSequence, ...], ...]
    asked: Tensor
    counts: Tensor
    hashes: Tensor
    told: Told | None
    """What a teacher says of the same texts; None without one, and where pictures are among them."""
    num_tokens: int
    flops: int


class ContrastiveModel(nn.Module):
    """A backbone that gives a sequence as many unit embeddings as a page has regions."""

    def __init__(self, backbone: Backbone, padding: TokenSequence | None, regions: int = 1) -> None:
        """`padding` goes with every chunk of a sharded model, and its embeddings are dropped."""
        super().__init__()
        self.backbone = backbone
        self._padding, self._regions = padding, regions

    def forward(self, chunk: Sequence[TokenSequence]) -> Tensor:
        """Unit embeddings [N, R, D]; what has fewer, as a text has one, has them over again."""
        sequences = [*chunk, self._padding] if self._padding is not None else chunk
        pack = Pack.of(sequences)
        weights = [sequence.weights for sequence in sequences]
        parts = pool_regions(self.backbone(pack), pack.lengths, weights, causal=self.backbone.causal)
        return torch.stack([rows[torch.arange(self._regions) % len(rows)] for rows in parts])[: len(chunk)]


class ClStage:
    """What the loop asks of stage two."""

    def __init__(
        self,
        settings: ClSettings,
        checkpoint: Checkpoint,
        ranks: Ranks,
        rows: Mixture[PairRow],
        held_out: Mixture[PairRow],
    ) -> None:
        """`rows` are to learn from, `held_out` to be judged by."""
        self._settings, self._checkpoint, self._ranks = settings, checkpoint, ranks
        self._rows, self._held_out = rows, held_out
        self._reader = reader = PairReader(checkpoint, settings)
        self._shape = reader.shape
        self._frame = replace(Frame.of(checkpoint), settings=reader.model_settings)
        self._crew: Crew[int, Pair | Fault] = (
            Crew(settings.workers, open_pair_rows, checkpoint, settings)
            if settings.workers
            else Crew(0, lambda: partial(reader.read, rows))
        )
        backbone = load_learner(checkpoint, settings, ranks)
        self._tutor = Tutor.open(settings, backbone, rows, reader)
        self._numbers, self._batches = self._plan()
        self._epoch: tuple[int, list[tuple[str, list[int]]]] | None = None
        padding = make_padding(self._shape).sequence if ranks.number > 1 else None
        self._module = ContrastiveModel(backbone, padding, reader.model_settings.page_regions)
        compute_half(self._module, settings, ranks)
        shard(self._module, list_layers(backbone), ranks)

    @property
    def module(self) -> nn.Module:
        """The backbone."""
        return self._module

    @property
    def num_steps(self) -> int:
        """As set, or the batches of all epochs."""
        return self._settings.steps or max(1, round(self._settings.epochs * len(self._batches)))

    def take(self, place: Place) -> Batch:
        """The next batch of the epoch's list: one task, the same on all ranks."""
        if self._epoch is None or self._epoch[0] != place.epoch:
            self._epoch = (place.epoch, self._batches.epoch(place.epoch))
        batches = self._epoch[1]
        rows = tuple(self._numbers[row] for row in batches[place.used][1])
        last = place.used + 1 == len(batches)
        following = Place(place.epoch + 1) if last else Place(place.epoch, place.used + 1)
        return Batch(rows, place.epoch, following)

    def prepare(self, batch: Batch) -> Work:
        """This rank's pairs, decoded and cut into chunks."""
        own = split_ranks(list(batch.rows), self._ranks.rank, self._ranks.number)
        own = [number for number in own if not self._rows.is_bad(number)]
        return self._build(self._rows.keep(*one) for one in zip(own, self._crew.build(own), strict=True))

    def run(self, prepared: Work) -> dict[str, float]:
        """Forward and backward in chunks, with the exact gradient of the loss over the global batch."""
        found: dict[str, float] = {}
        told = prepared.told
        # Ranks gather together or not at all: a mixed batch may hold pictures on one of them alone.
        texts = self._ranks.add_up({"texts": float(told is not None)}) if self._tutor else {"texts": 0.0}
        teaches = texts["texts"] == self._ranks.number

        def loss(embeddings: Tensor) -> Tensor:
            value, right, number = self._compare(embeddings, prepared)
            found.update(loss=value.item() / self._ranks.number, right=right / self._ranks.number)
            if teaches and self._tutor and told is not None:
                lesson, figures = self._tutor.teach(embeddings[:, 0], told)
                found.update({name: figure / self._ranks.number for name, figure in figures.items()})
                value = value + lesson
            found["queries"] = number / self._ranks.number
            return value

        grad_cache(self._module, self._even_out(prepared.chunks), loss)
        return {**found, "batches": 1 / self._ranks.number, "tokens": prepared.num_tokens, "flops": 3 * prepared.flops}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The loss, the share of queries whose positive comes first in the batch, and what was worked through."""
        return {
            "loss": sums["loss"] / sums["batches"],
            "accuracy": sums["right"] / max(sums["queries"], 1e-9),
            **{name: sums[name] / sums["batches"] for name in ("teacher_loss", "teacher_distance") if name in sums},
            "queries": sums["queries"],
            "tokens": sums["tokens"],
            "flops": sums["flops"],
        }

    def judge(self) -> dict[str, float]:
        """The sums of `run` over batches of held-out pairs, without learning from them."""
        number = min(len(self._held_out), HELD_OUT_PAIRS)
        sums = dict.fromkeys(("loss", "right", "queries", "batches", "tokens", "flops"), 0.0)
        size = min(self._settings.batch_size, 64)
        for start in range(0, number, size):
            own = split_ranks(list(range(start, min(start + size, number))), self._ranks.rank, self._ranks.number)
            work = self._build(self._held_out.take(one, self._reader.encode) for one in own)
            with torch.no_grad():
                parts = [self._module(chunk) for chunk in self._even_out(work.chunks)]
                value, right, queries = self._compare(torch.cat(parts), work)
            shares = (value.item(), right, queries, 1.0)
            for name, share in zip(("loss", "right", "queries", "batches"), shares, strict=True):
                sums[name] += share / self._ranks.number
            sums["tokens"] += work.num_tokens
            sums["flops"] += work.flops
        return sums if number else {}

    def show(self, step: int, done: bool) -> None:
        """Nothing: a pair is no picture."""

    def write_model(self, folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone; under LoRA the factors are left over, and `adapter/` holds them for others, too."""
        named = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
        model, factors = split_lora(named, self._settings)
        write_model(folder, model, self._frame, self._settings)
        if factors:
            write_adapter(folder / "adapter", factors, self._checkpoint, self._settings)
        return factors

    def fingerprint(self) -> str:
        """A hash of the rows to learn from."""
        return self._rows.fingerprint()

    def name_rows(self, batch: Batch) -> str:
        """The rows' sources and places."""
        return self._rows.name_rows(batch.rows)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _plan(self) -> tuple[list[int], TaskBatches]:
        """The rows' numbers task after task, and the batches over them."""
        tasks = self._rows.group_tasks()
        settings, sources = self._settings, self._rows.find_sources(tasks)
        batches = TaskBatches(
            {task: len(rows) for task, rows in tasks.items()},
            settings.batch_size,
            settings.seed,
            weights={task: source.weight for task, source in sources.items()},
            batch_sizes={task: source.batch_size for task, source in sources.items() if source.batch_size},
            neighbours={task: source.neighbours for task, source in sources.items()},
            task_aware=settings.task_aware,
            keep_last=settings.keep_last,
        )
        return [row for rows in tasks.values() for row in rows], batches

    def _build(self, found: Iterable[Pair | None]) -> Work:
        pairs = [pair for pair in found if pair is not None]
        queries, documents = [side for pair in pairs for side in pair[0]], [side for pair in pairs for side in pair[1]]
        sequences = [*queries, *documents]
        return Work(
            chunks=tuple(cut_chunks(sequences, self._settings.chunk_tokens)),
            asked=torch.tensor([len(pair[0]) for pair in pairs], dtype=torch.long),
            counts=torch.tensor([len(pair[1]) for pair in pairs], dtype=torch.long),
            hashes=torch.tensor([key for pair in pairs for key in pair[2]], dtype=torch.long),
            told=self._tutor.ask(pairs, sequences) if self._tutor else None,
            num_tokens=sum(len(sequence.ids) for sequence in sequences),
            flops=sum(count_flops(self._shape, len(sequence.ids), sequence.grids) for sequence in sequences),
        )

    def _even_out(self, chunks: Sequence[tuple[TokenSequence, ...]]) -> list[tuple[TokenSequence, ...]]:
        """As many chunks as the rank with the most has, empty ones at the end: sharded ranks step together."""
        if self._ranks.number == 1:
            return list(chunks)
        most = int(gather_with_grad(torch.tensor([len(chunks)], device=self._ranks.device)).max())
        return [*chunks, *([()] * (most - len(chunks)))]

    def _compare(self, embeddings: Tensor, work: Work) -> tuple[Tensor, float, int]:
        """The loss over the global batch, how many of its queries find their positive first, and how many there are."""
        device, own = embeddings.device, int(work.asked.sum())
        queries, documents = (gather_with_grad(part) for part in (embeddings[:own, 0], embeddings[own:]))
        asked, counts, hashes = (gather_with_grad(part.to(device)) for part in (work.asked, work.counts, work.hashes))
        positives = place_positives(counts).repeat_interleave(asked)
        same = mask_duplicates(hashes, positives)
        settings = self._settings
        rules = {"same": same, "negatives": settings.negatives}
        loss = info_nce(queries, documents, positives, temperature=settings.temperature, **rules)  # type: ignore[arg-type]
        if settings.dimensions:
            loss = loss + matryoshka_nce(
                queries,
                documents,
                positives,
                dimensions=settings.dimensions,
                temperature=settings.temperature,
                **rules,  # type: ignore[arg-type]
            )
        with torch.no_grad():
            right = accuracy(queries, documents, positives, **rules)  # type: ignore[arg-type]
        return loss, float(right) * len(queries), len(queries)


def cut_chunks(sequences: Sequence[TokenSequence], max_tokens: int) -> list[tuple[TokenSequence, ...]]:
    """The sequences in order, cut where a chunk would grow over `max_tokens`; a longer sequence stands alone."""
    cuts, size = [0], 0
    for place, sequence in enumerate(sequences):
        if size and size + len(sequence.ids) > max_tokens:
            cuts.append(place)
            size = 0
        size += len(sequence.ids)
    cuts.append(len(sequences))
    return [tuple(sequences[start:end]) for start, end in pairwise(cuts)]


def load_learner(checkpoint: Checkpoint, settings: ClSettings, ranks: Ranks) -> Backbone:
    """The model to be trained: every weight of it, or factors beside frozen layers, those of the newest checkpoint."""
    backbone = load_trainable(checkpoint, settings, ranks)
    if settings.lora_rank:
        add_lora(backbone, settings)
        newest = find_newest(Path(settings.out))
        if newest is not None:
            restore_lora(backbone, read_tensors(newest, "heads"))
    return backbone


def open_stage(settings: ClSettings, ranks: Ranks) -> ClStage:
    """The stage, from the run's newest checkpoint where there is one, else from the model that was named.

    Under LoRA always from the latter: a checkpoint's model has its factors added in, and rounding would add up.
    """
    found = find_start(settings, afresh=settings.lora_rank > 0)
    if settings.lora_rank and found.adapter is not None:
        raise ConfigError(
            f"{settings.model} is an adapter itself, and LoRA needs a whole model: write one by moca model export"
        )
    rows, held_out = open_mixtures(settings, open_pairs)
    return ClStage(settings, found, ranks, rows, held_out)
