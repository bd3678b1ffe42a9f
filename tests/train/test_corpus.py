"""The corpus from Debian packages: splits by family, nothing twice, the same bytes; packages are made by dpkg-deb here."""

import csv
import gzip
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from moca_rag.cli.main import run
from moca_rag.train.corpus import write_corpus
from moca_rag.train.corpus_settings import (
    KINDS,
    SPLITS,
    CorpusReport,
    CorpusSettings,
    FontPackage,
    TextPackage,
    load_corpus_settings,
)
from moca_rag.train.debian import list_files
from moca_rag.train.documents import Document, read_documents

from moca_rag.errors import ConfigError
from tests.makers import make_pdf
from tests.small_font import make_font
from tests.small_packages import THINGS, make_package, tell

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="packages are made and unpacked by dpkg-deb")


def pdf_bytes(folder: Path, *seeds: int) -> bytes:
    return make_pdf(folder / "page.pdf", [tell(seed, 6) for seed in seeds]).read_bytes()


def html_bytes(*seeds: int) -> bytes:
    return "".join(f"<p>{tell(seed)}</p>" for seed in seeds).encode()


@pytest.fixture
def debs(tmp_path: Path) -> Path:
    """Four packages; the page of seed 3 stands in all splits, that of seed 20 in two documents of one package."""
    folder = tmp_path / "debs"
    make_package(folder, "pumps-doc", {"guide.pdf": pdf_bytes(tmp_path, 1, 2, 3), "faq.html": html_bytes(99)})
    make_package(
        folder, "ships-doc", {"a.pdf": pdf_bytes(tmp_path, 4, 3), "b.pdf.gz": gzip.compress(pdf_bytes(tmp_path, 5))}
    )
    make_package(
        folder,
        "mills-doc",
        {"one/a.html": html_bytes(10), "one/b.html": html_bytes(11), "two/c.html": html_bytes(3, 3)},
    )
    make_package(
        folder,
        "canals-doc",
        {"x.pdf": pdf_bytes(tmp_path, 20), "y.pdf": pdf_bytes(tmp_path, 3, 20), "z.pdf": b"%PDF-1.7 broken"},
    )
    return folder


SETTINGS = CorpusSettings(
    packages=(
        TextPackage("canals-doc"),
        TextPackage("mills-doc", family="mills", read="html"),
        TextPackage("ships-doc", family="ships"),
        TextPackage("pumps-doc", "1.0-1", "pumps"),
    ),
    dev=("ships",),
    test=("pumps",),
)


def corpus_of(out: Path) -> dict[str, list[Document]]:
    return {split: list(read_documents(out / f"documents-{split}.jsonl.gz")) for split in SPLITS}


def write(tmp_path: Path, debs: Path, **changes: object) -> CorpusReport:
    settings = CorpusSettings(**{**{name: getattr(SETTINGS, name) for name in CorpusSettings.__slots__}, **changes})  # type: ignore[arg-type]
    return write_corpus(tmp_path / "out", settings, debs)


def test_a_page_stands_in_one_split_and_a_family_in_one(tmp_path: Path, debs: Path) -> None:
    report = write(tmp_path, debs)
    documents = corpus_of(tmp_path / "out")
    pages = {split: [page for document in documents[split] for page in document.pages] for split in SPLITS}
    assert {split: len(pages[split]) for split in SPLITS} == {"test": 3, "dev": 2, "train": 3}
    assert {split: {document.family for document in documents[split]} for split in SPLITS} == {
        "test": {"pumps"},
        "dev": {"ships"},
        "train": {"canals-doc", "mills"},
    }
    texts = [" ".join(block.text for block in page.blocks) for split in SPLITS for page in pages[split]]
    assert len(set(texts)) == 8
    assert [tell(3, 6) in " ".join(block.text for block in page.blocks) for page in pages["test"]] == [
        False,
        False,
        True,
    ]
    assert report.dropped == {"near page": 1, "same page": 3}
    (failure,) = report.failed
    assert failure.path == "canals-doc/usr/share/doc/canals-doc/z.pdf" and failure.code == "broken"


def test_the_report_counts_what_was_written(tmp_path: Path, debs: Path) -> None:
    report = write(tmp_path, debs)
    documents = corpus_of(tmp_path / "out")
    for split in SPLITS:
        count = report.splits[split]
        pages = [page for document in documents[split] for page in document.pages]
        assert (count.documents, count.pages) == (len(documents[split]), len(pages))
        assert count.words == sum(page.num_words for page in pages) > 100
        assert count.size == (tmp_path / "out" / f"documents-{split}.jsonl.gz").stat().st_size
        assert sum(count.families.values()) == sum(count.kinds.values()) == len(pages)
    assert report.splits["train"].kinds == {"pdf": 1, "html": 2}
    (pumps,) = documents["test"]
    assert pumps.name == "pumps-doc/usr/share/doc/pumps-doc/guide.pdf" == pumps.pages[0].document
    assert (pumps.package, pumps.version) == ("pumps-doc", "1.0-1")


def test_packages_are_recorded_with_version_and_hash(tmp_path: Path, debs: Path) -> None:
    write(tmp_path, debs)
    with (tmp_path / "out" / "packages.tsv").open(newline="") as file:
        rows = {row["package"]: row for row in csv.DictReader(file, dialect="excel-tab")}
    assert set(rows) == {"pumps-doc", "ships-doc", "mills-doc", "canals-doc"}
    digest = hashlib.sha256((debs / "ships-doc_1.0-1_all.deb").read_bytes()).hexdigest()
    head = {"package": "ships-doc", "version": "1.0-1", "sha256": digest, "family": "ships", "split": "dev"}
    assert rows["ships-doc"] == {**head, "documents": "2", "pages": "2", "fonts": "0"}


def test_the_same_packages_give_the_same_bytes(tmp_path: Path, debs: Path) -> None:
    files = []
    for number, processes in enumerate((1, 3)):
        write(tmp_path / str(number), debs, processes=processes)
        out = tmp_path / str(number) / "out"
        files.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert files[0] == files[1] and len(files[0]) == 4


def test_caps_bound_a_document_and_a_package(tmp_path: Path) -> None:
    pdfs = {
        f"{name}.pdf": pdf_bytes(tmp_path, *range(100 * place, 100 * place + 9)) for place, name in enumerate("abc", 1)
    }
    make_package(tmp_path / "debs", "pumps-doc", pdfs)
    packages = (TextPackage("pumps-doc"),)
    write_corpus(tmp_path / "few", CorpusSettings(packages, document_pages=3), tmp_path / "debs")
    numbers = [[page.number for page in document.pages] for document in corpus_of(tmp_path / "few")["train"]]
    assert numbers == [[2, 5, 8]] * 3
    settings = CorpusSettings((TextPackage("pumps-doc", pages=11, document_pages=9),), document_pages=3)
    write_corpus(tmp_path / "eleven", settings, tmp_path / "debs")
    assert [len(document.pages) for document in corpus_of(tmp_path / "eleven")["train"]] == [9, 2]


def test_what_says_little_is_no_english_or_is_mostly_code_is_left_out(tmp_path: Path) -> None:
    code = "\n".join(f"let {thing} = pump({number});" for number, thing in enumerate(THINGS))
    pages = {
        "short": "<p>The pump is oiled.",
        "german": f"<p>{'Die Pumpe wird vom Wärter im Hafen geölt und das Blatt gewendet. ' * 9}",
        "code": f"<p>{tell(1, 3)}<pre>{code}</pre>",
        "fine": f"<p>{tell(2)}<pre>{code[:90]}</pre>",
    }
    make_package(tmp_path / "debs", "mills-doc", {f"{name}/a.html": text.encode() for name, text in pages.items()})
    report = write_corpus(tmp_path / "out", CorpusSettings((TextPackage("mills-doc", read="html"),)), tmp_path / "debs")
    assert report.dropped == {"few words": 1, "not English": 1, "mostly code": 1}
    (document,) = corpus_of(tmp_path / "out")["train"]
    assert document.name == "mills-doc/usr/share/doc/mills-doc/fine"


def test_only_the_files_of_a_pattern_are_read_and_the_same_file_once(tmp_path: Path) -> None:
    one = pdf_bytes(tmp_path, 1)
    files = {"en/a.pdf": one, "de/a.pdf": pdf_bytes(tmp_path, 2), "en/copy.pdf": one}
    make_package(tmp_path / "debs", "pumps-doc", files)
    report = write_corpus(
        tmp_path / "out", CorpusSettings((TextPackage("pumps-doc", paths="en/*.pdf"),)), tmp_path / "debs"
    )
    assert [Path(document.name).name for document in corpus_of(tmp_path / "out")["train"]] == ["a.pdf"]
    assert report.dropped == {"same document": 1}


def test_links_of_a_package_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "real.pdf").write_text("x")
    (tmp_path / "link.pdf").symlink_to("real.pdf")
    assert list_files(tmp_path, ["*.pdf"]) == [tmp_path / "real.pdf"]


@pytest.fixture
def apt(tmp_path: Path, debs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that has these packages and no network; it notes what it was asked for."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "apt-get"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncp {debs}/"$3"_*.deb . 2> /dev/null && exit 0\n'
        'echo "E: Unable to locate package $3" >&2\nexit 100\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_what_a_folder_lacks_is_downloaded_into_it_once(tmp_path: Path, debs: Path, apt: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(debs / "pumps-doc_1.0-1_all.deb", mine)
    write_corpus(tmp_path / "out", SETTINGS, mine)
    names = ["canals-doc", "mills-doc", "ships-doc"]
    assert apt.read_text().splitlines() == [f"-q download {name}" for name in names]
    assert sorted(path.name for path in mine.iterdir()) == sorted(path.name for path in debs.glob("*.deb"))
    write_corpus(tmp_path / "again", SETTINGS, mine)
    assert len(apt.read_text().splitlines()) == 3
    write_corpus(tmp_path / "third", SETTINGS)  # into a scratch folder
    assert len(apt.read_text().splitlines()) == 7


def test_a_package_that_cannot_be_had_is_one_line_and_nothing_is_left(tmp_path: Path, debs: Path, apt: Path) -> None:
    settings = CorpusSettings((TextPackage("no-such-doc"),))
    with pytest.raises(
        ConfigError, match=r"no-such-doc cannot be downloaded: E: Unable to locate package no-such-doc; "
    ):
        write_corpus(tmp_path / "out", settings, debs)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    shutil.copy(debs / "ships-doc_1.0-1_all.deb", debs / "ships-doc_2.0-1_all.deb")
    with pytest.raises(ConfigError, match="holds 2 packages ships-doc"):
        write_corpus(tmp_path / "out", SETTINGS, debs)
    (debs / "bad-doc_1_all.deb").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"bad-doc_1_all\.deb is no package"):
        write_corpus(tmp_path / "out", CorpusSettings((TextPackage("bad-doc"),)), debs)


def test_another_version_is_told_and_used(tmp_path: Path, debs: Path) -> None:
    report = write(tmp_path, debs, packages=(TextPackage("pumps-doc", "0.9-1"),), dev=(), test=())
    assert report.other_versions == {"pumps-doc": "1.0-1"}
    assert report.splits["train"].pages == 3


def test_a_corpus_without_a_page_is_refused_and_so_is_a_folder_that_is_taken(tmp_path: Path, debs: Path) -> None:
    with pytest.raises(ConfigError, match="no page is left of 4 packages"):
        write(tmp_path, debs, min_words=10_000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write(tmp_path, debs)


def test_the_command_shows_what_it_wrote(tmp_path: Path, debs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "test: [pumps-doc]\npackages: [pumps-doc, canals-doc, {name: mills-doc, read: html, family: mills}]\n"
    )
    words = ["data", "corpus", "--config", str(config), "--packages", str(debs)]
    assert run([*words, str(tmp_path / "one")]) == 3
    said = capsys.readouterr().out
    assert "test   1 document, 3 pages, " in said and "       mills 2, canals-doc 1\n" in said
    assert "left out: 2 same page, 1 near page" in said and "z.pdf: " in said
    assert run([*words, "--json", str(tmp_path / "two")]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["splits"]["train"]["families"] == {"canals-doc": 1, "mills": 2}
    assert report["dropped"] == {"same page": 2, "near page": 1}
    assert run(["data", "corpus", str(tmp_path / "three"), "--config", "huge"]) == 2
    assert "there is no config 'huge' of a corpus: give a .yaml file or one of tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("packages: [a]\ndev: [b]", "no package is of the family 'b': correct dev or test"),
        ("packages: [a]\ndev: [a]\ntest: [a]", "the family 'a' is in dev and in test"),
        ("packages: [{name: a, read: dvi}]", "a cannot be read as 'dvi': write pdf, html, man"),
        ("fonts: [{name: a, split: tset}]", "a is in the split 'tset': write test, dev, train"),
        ("package: [a]", "there is no setting 'package'"),
    ],
)
def test_a_config_that_contradicts_itself_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_corpus_settings(str(path))


def test_the_preset_names_versions_and_keeps_each_family_in_one_split() -> None:
    settings = load_corpus_settings("tiny")
    assert all(package.version for package in (*settings.packages, *settings.fonts))
    assert {package.read for package in settings.packages} == set(KINDS)
    splits = {split: [p for p in settings.packages if settings.split_of(p) == split] for split in SPLITS}
    assert len(splits["train"]) >= 60 and len(splits["dev"]) >= 5 and len(splits["test"]) >= 5
    names = [{package.name for package in splits[split]} for split in SPLITS]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert {font.split for font in settings.fonts} == set(SPLITS)
    assert len({font.name for font in settings.fonts}) == len(settings.fonts)


def test_fonts_of_a_package_lie_in_the_folder_of_their_split(tmp_path: Path, debs: Path) -> None:
    pytest.importorskip("fontTools")
    make_package(tmp_path / "debs", "fonts-harbour", {"Harbour-Regular.ttf": make_font(), "notes.txt": b"x"})
    settings = CorpusSettings((TextPackage("pumps-doc"),), (FontPackage("fonts-harbour", split="dev"),))
    report = write_corpus(tmp_path / "out", settings, debs)
    assert report.splits["dev"].fonts == 1 and report.splits["train"].fonts == 0
    assert [path.name for path in (tmp_path / "out" / "fonts").rglob("*.ttf")] == ["Harbour-Regular.ttf"]
    wrong = CorpusSettings((TextPackage("pumps-doc"),), (FontPackage("fonts-harbour", files=("*.otf",)),))
    with pytest.raises(ConfigError, match="fonts-harbour has no text face"):
        write_corpus(tmp_path / "other", wrong, debs)
