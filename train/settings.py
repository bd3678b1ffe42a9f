"""The settings of both stages and of mining, and what they come to; `train/configs/` holds presets of the stages."""

from dataclasses import dataclass, field
from pathlib import Path

from moca_rag.records import Failure


@dataclass(frozen=True)
class Source:
    """Where rows lie, and how they are read; a config holds a list of these."""

    path: str
    """A file, a folder of files, or a pattern such as `MMEB-train/*/original-*.parquet`."""
    format: str = "auto"
    """`auto`, `parquet`, `jsonl`, `folder`, or a data set: `moca-cl-pairs`, `mmeb-train`, `colpali`, `docmatix`.
    `composed` makes pages of documents of `moca data corpus`; `images` is then the folder of its fonts. `passages` makes
    pairs of texts of the same documents, `lines` of a plain list of words or sentences (stage two)."""
    task: str = ""
    """What rows that name no task belong to; without it the name of their file or folder."""
    weight: float = 1.0
    """How often it is drawn, against the other sources."""
    limit: int | None = None
    """Only so many rows, from the first."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our names of columns to theirs: `query_text: question`."""
    negatives: int = 2
    """Only so many of a row's negatives, from the first."""
    questions: int = 1
    """How much is asked of each composed page: an encoder reads it once for all its questions."""
    images: str = ""
    """The folder, zip or tar that image paths lead into; without it `images`, `images.zip` or `images.tar` beside it."""
    batch_size: int = 0
    """Rows of its batches in stage two, over all ranks; 0 takes the run's batch_size."""
    neighbours: int = 1
    """So many rows that follow one another stay in one batch of stage two: pages of one document are each other's hardest
    wrong answers. Of `composed` they are pages of one document, set alike."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What both stages share. Batches are global: the number of ranks changes none of them."""

    model: str = ""
    """The model to start from: a folder or hub id."""
    out: str = ""
    """Where checkpoints, logs and pictures go; the same command goes on from its newest checkpoint."""
    data: tuple[Source, ...] = ()
    held_out: tuple[Source, ...] = ()
    seed: int = 0
    epochs: float = 1.0
    steps: int = 0
    """Steps in all; 0 lets the epochs decide."""
    max_tokens: int = 2048
    learning_rate: float = 2e-6
    warmup: float = 0.1
    """The share of all steps over which the learning rate rises; after it, it falls in a line to zero."""
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    """`adamw`, or `muon` for the matrices of the layers (one process only)."""
    rates: dict[str, float] = field(default_factory=dict)
    """Weights that learn at another share of the rate, by patterns of their names: `language_model.layers.*: 6`."""
    clip: float = 5.0
    bidirectional: bool = True
    half: bool = False
    """Products in bfloat16 on a CPU, too: twice as fast where it has them (AVX-512 BF16). A GPU always computes so."""
    frozen: tuple[str, ...] = ()
    """Weights that are not trained, as patterns of their names: `visual.*`, `language_model.embed_tokens.*`."""
    recompute: bool = False
    """Activation checkpointing: a third more time for much less memory."""
    save_steps: int = 200
    keep: int = 2
    file_mb: int = 4000
    """No file of a checkpoint is larger, unless a single tensor is."""
    log_steps: int = 1
    held_out_steps: int = 200
    show_steps: int = 200
    """Steps from one picture of restored rows to the next (stage one); 0 draws none."""
    max_bad_rows: int = 100
    """Rows that cannot be read are passed over, up to so many; then the run stops and names them."""
    workers: int = 0
    """Processes that read rows or compose pages, for each rank; with 0 a thread of the rank's own does it."""


@dataclass(frozen=True, slots=True)
class CptSettings(RunSettings):
    """Stage one, continual pre-training; the defaults are the paper's for 3B."""

    batch_tokens: float = 409_600.0
    """The cost of a step's batch in text tokens (12,800 on each of 32 GPUs)."""
    pack_tokens: float = 12_800.0
    """The cost of one forward pass."""
    mlm_probability: float = 0.4
    mae_ratio: float = 0.5
    mlm_weight: float = 1.0
    mae_weight: float = 0.5
    shift: bool = True
    """Predict a token from the state before it (paper), or from its own (released code)."""
    noise: str = "patch"
    """`patch`: a fresh Gaussian vector for each (paper); `batch`: one for all of a pack (released code)."""


@dataclass(frozen=True, slots=True)
class ClSettings(RunSettings):
    """Stage two, contrastive fine-tuning; the defaults are the paper's for 3B."""

    learning_rate: float = 1e-5
    warmup: float = 0.05
    batch_size: int = 2048
    """Pairs of a step, over all ranks."""
    chunk_tokens: int = 16_384
    """Tokens in memory at a time: gradients are exact whatever this is (GradCache)."""
    temperature: float = 0.03
    num_negatives: int = 2
    """Hard negatives of a pair, from the first of its list."""
    negatives: str = "all"
    """`all`: other positives and other hard negatives (paper); `own`: own hard negatives only (released code)."""
    task_aware: bool = True
    keep_last: bool = True
    """A task's last, smaller batch."""
    teacher: str = ""
    """A folder of sentence-transformers. Texts learn to be as near to each other as it finds them; pictures do not."""
    teacher_weight: float = 1.0
    teacher_pull: float = 0.0
    """What the distance of a text from where the teacher puts it weighs: in the space of a model whose vocabulary had that
    teacher (`moca model new --teacher`), so that pages find texts where they were."""
    regions: int = 0
    """A page is found by the best of so many equal parts, each with an embedding; 0: as the model's moca.json says."""
    dimensions: tuple[int, ...] = ()
    """Matryoshka: the loss also over embeddings cut to these sizes."""
    lora_rank: int = 0
    """Train factors of this rank beside frozen layers (LoRA); 0 trains every weight."""
    lora_alpha: float = 16.0
    """What the factors add is weighed with lora_alpha / lora_rank."""
    lora_targets: tuple[str, ...] = ("language_model.*_proj",)
    """The linear layers that get factors, as patterns of their names; `visual.*` adds the vision tower's."""


@dataclass(frozen=True, slots=True)
class BaseSettings(RunSettings):
    """Stage zero: a model without knowledge learns to read composed pages, patch by patch, then to read them on."""

    learning_rate: float = 1e-3
    warmup: float = 0.05
    bidirectional: bool = False
    documents: str = ""
    """What is written on the pages, and `held_out_documents` on those to be judged by (`moca data corpus`)."""
    faces: str = ""
    """The folder of fonts; `held_out_faces` those that are never learnt."""
    held_out_documents: str = ""
    held_out_faces: str = ""
    batch_size: int = 32
    """Pages of a step, over all ranks."""
    pack_tokens: int = 4096
    """Visual and text tokens of one forward pass."""
    pages: float = 0.0
    """The share of whole pages with their text; the rest are crops, which only the vision tower reads."""
    scans: float = 0.15
    """The share of crops and pages that look scanned."""
    crop_sizes: tuple[float, ...] = (8.0, 24.0)
    """The least and the largest type of crops, in pixels."""
    letter_weight: float = 1.0
    word_weight: float = 1.0
    sum_weight: float = 1.0
    """A visual token as the sum of the embeddings of the text tokens in its cell."""
    token_weight: float = 1.0
    """The next token of a page's text, given its picture; only whole pages teach it."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to: its folder, the newest checkpoint, steps done, the last figures."""

    out: Path
    checkpoint: Path | None
    steps: int
    num_steps: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """The sizes of a new model, by the names of its config.json."""

    vocab_size: int = 8192
    hidden_size: int = 320
    intermediate_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 5
    num_key_value_heads: int = 1
    vision_depth: int = 6
    vision_hidden_size: int = 192
    vision_intermediate_size: int = 768
    vision_num_heads: int = 6
    window_size: int = 112
    fullatt_block_indexes: tuple[int, ...] = (4,)
    min_pixels: int = 50_176
    max_pixels: int = 782_040
    max_tokens: int = 2304
    drop_blank: bool = False
    """From stage one on, cells of a page that hold one even colour are left out."""
    regions: int = 1
    """From stage two on, a page has an embedding of each of so many equal parts."""
    sentences: int = 120_000
    """From which the tokens' meanings are learnt, where there is a teacher."""
    half: bool = False
    """The teacher computes in bfloat16."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class NewModel:
    """What was made: its folder, its weights, its tokens and how many letters one of them stands for."""

    folder: Path
    num_parameters: int
    num_tokens: int
    letters_per_token: float


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """Which of the documents that rank high count as negatives."""

    negatives: int = 4
    """At most so many a pair, best ranks first."""
    margin: float = 0.05
    """How far below the positive's a negative's cosine lies at least: what scores higher may well be an answer, too."""
    depth: int = 50
    """How many ranks are looked at."""
    max_bad_rows: int = 100


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What was written; `short` counts the pairs with fewer negatives than asked for, `skipped` rows not readable."""

    folder: Path
    rows: int
    documents: int
    negatives: int
    short: int
    skipped: int
    size: int


@dataclass(frozen=True, slots=True)
class ExamSettings:
    """Which composed pages are asked for."""

    pages: int = 2000
    min_words: int = 60
    scans: bool = False
    """Whether all pages look scanned."""
    searchable: float = 0.0
    """The share of pages that are PDFs with their words in a text layer; the others are pictures."""
    seed: int = 0
    passwords: tuple[str, ...] = field(default=(), repr=False)
    """Tried on encrypted PDFs, whose pages are written without encryption."""


@dataclass(frozen=True, slots=True)
class ExamReport:
    """What was written: the folder, its pages, its questions by kind; `failed` is what could not be read."""

    folder: Path
    pages: int
    questions: dict[str, int]
    failed: list[Failure] = field(default_factory=list)
