"""The settings of the corpus and what it comes to; `train/configs/corpus/` holds a preset."""

from dataclasses import dataclass, field
from pathlib import Path

from moca_rag.config import load_settings
from moca_rag.errors import ConfigError
from moca_rag.records import Failure

from .documents import Split

CONFIGS = Path(__file__).parent / "configs" / "corpus"
SPLITS: tuple[Split, ...] = ("test", "dev", "train")  # in this order: what stands in two of them stays in the first
KINDS = {  # of documents, and their files in a package
    "pdf": ("*.pdf", "*.pdf.gz"),
    "html": ("*.html", "*.htm", "*.xhtml"),
    "man": ("usr/share/man/man?/*",),
}


@dataclass(frozen=True, slots=True)
class TextPackage:
    """A package that is read for its text."""

    name: str
    version: str = ""
    """The version that the figures were made with; another is told, and used."""
    family: str = ""
    """What has the same authors or the same subject has the same family, and so the same split; its name if empty."""
    read: str = "pdf"
    """`pdf`, `html` or `man`."""
    paths: str = "*"
    """Which of its files, as a pattern of the path's end: `en/*.html`."""
    pages: int = 0
    """At most so many, instead of `package_pages`."""
    document_pages: int = 0
    """At most so many of a document, instead of the corpus's `document_pages`."""


@dataclass(frozen=True, slots=True)
class FontPackage:
    """A package of fonts."""

    name: str
    version: str = ""
    split: str = "train"
    files: tuple[str, ...] = ("*",)
    """Which of its files, as patterns of their names."""


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """Which packages become the corpus, and how much of each; `train/configs/corpus/` holds a preset."""

    packages: tuple[TextPackage, ...] = ()
    fonts: tuple[FontPackage, ...] = ()
    dev: tuple[str, ...] = ()
    """The families to choose by."""
    test: tuple[str, ...] = ()
    """The families to measure on; all others are trained on."""
    package_pages: int = 1000
    """At most so many pages of a package, in documents drawn from it."""
    document_pages: int = 100
    """At most so many pages of a document, at even distances."""
    min_words: int = 30
    """A page with fewer is left out."""
    near: float = 0.3
    """The share of runs of five words in common from which a page counts as another's copy and is left out."""
    processes: int = 2
    seconds: float = 120.0
    """How long one document may take to be read."""

    def split_of(self, package: TextPackage) -> Split:
        """The split of its family."""
        family = package.family or package.name
        return "test" if family in self.test else "dev" if family in self.dev else "train"


@dataclass(slots=True)
class SplitCount:
    """What one split holds."""

    documents: int = 0
    pages: int = 0
    words: int = 0
    size: int = 0
    """Of its file, in bytes."""
    fonts: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """Pages by what they were read from."""
    families: dict[str, int] = field(default_factory=dict)
    """Pages by family."""


@dataclass(slots=True)
class CorpusReport:
    """What was written."""

    folder: Path
    splits: dict[str, SplitCount]
    dropped: dict[str, int] = field(default_factory=dict)
    """Documents and pages left out: `same document`, `few words`, `mostly code`, `not English`, `same page`, `near page`."""
    other_versions: dict[str, str] = field(default_factory=dict)
    """Packages that were found in another version than the config's."""
    failed: list[Failure] = field(default_factory=list)


def load_corpus_settings(name: str) -> CorpusSettings:
    """The settings of a preset, or of a .yaml file. Raises ConfigError where they contradict one another."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(preset.stem for preset in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"there is no config {name!r} of a corpus: give a .yaml file or one of {known}")
    settings = load_settings(CorpusSettings(), path)
    families = {package.family or package.name for package in settings.packages}
    for family in (*settings.dev, *settings.test):
        if family not in families:
            raise ConfigError(f"{path}: no package is of the family {family!r}: correct dev or test")
    for family in set(settings.dev) & set(settings.test):
        raise ConfigError(f"{path}: the family {family!r} is in dev and in test: take it out of one")
    for package in settings.packages:
        if package.read not in KINDS:
            raise ConfigError(f"{path}: {package.name} cannot be read as {package.read!r}: write {', '.join(KINDS)}")
    for font in settings.fonts:
        if font.split not in SPLITS:
            raise ConfigError(f"{path}: {font.name} is in the split {font.split!r}: write {', '.join(SPLITS)}")
    return settings
