"""Makes Debian packages of a few documents, by dpkg-deb."""

import random
import subprocess
from pathlib import Path

THINGS = (
    "pump boiler harbour ferry coal timber seal lamp rope anchor keeper engine valve bridge canal lock tide storm crane "
    "wagon furnace copper tin gauge hose ladder mast oar pier quay rudder sail tunnel wheel yard basin chain dock"
).split()


def tell(seed: int, num_sentences: int = 12) -> str:
    """A page of English that no other seed gives."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(num_sentences):
        one, two, three, four = draw.sample(THINGS, 4)
        sentences.append(f"The {one} of the {two} is to be seen by the {three} and is not for the {four}.")
    return " ".join(sentences)


def make_package(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0-1") -> Path:
    """A package of these files under usr/share/doc."""
    root = folder / "build" / name
    for path, data in files.items():
        place = root / "usr/share/doc" / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A Person <a@example.org>\nDescription: none\n"
    )
    target = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(target)], check=True, capture_output=True)
    return target


def write_small_packages(folder: Path) -> None:
    """Three packages in `debs`, one for each split, and a config that reads them, `small.yaml`."""
    splits = ("pumps-doc", "ships-doc", "mills-doc")
    for seed, name in enumerate(splits):
        make_package(folder / "debs", name, {"guide.html": f"<p>{tell(seed)}</p>".encode()})
    listed = "".join(f"  - {{name: {name}, read: html}}\n" for name in splits)
    (folder / "small.yaml").write_text(f"test: [pumps-doc]\ndev: [ships-doc]\npackages:\n{listed}")
