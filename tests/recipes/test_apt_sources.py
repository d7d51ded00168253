"""The guests' packages come from the machine's own Debian mirrors, however they are written down."""

from pathlib import Path

import pytest

from fixtures.apt import sources
from v2c.errors import UsageError

MAIN = "deb http://mirror.example/debian bookworm main"
UPDATES = "deb http://mirror.example/debian bookworm-updates main"
SECURITY = "deb http://mirror.example/security bookworm-security main"


def etc(folder: Path, **files: str) -> Path:
    """An /etc/apt with these sources."""
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        path = folder / "sources.list" if name == "list" else folder / "sources.list.d" / name.replace("_", ".")
        path.write_text(text)
    return folder


def test_one_line(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # ours\n"
        "deb http://mirror.example/debian bookworm-updates main\n"
        "deb-src http://mirror.example/source bookworm main\n"
        "deb http://mirror.example/security bookworm-security main\n"
    )
    assert sources(etc(tmp_path, list=text)) == [MAIN, UPDATES, SECURITY]


def test_deb822(tmp_path: Path) -> None:
    text = (
        "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n"
        "Components: main\nSigned-By: /k.gpg\n\n\n"
        "types: deb\nuris: http://mirror.example/security\nsuites: bookworm-security\ncomponents: contrib main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n\n"
        "Types: deb-src\nURIs: http://source.example\nSuites: bookworm\nComponents: main\n"
    )
    assert sources(etc(tmp_path, debian_sources=text)) == [MAIN, UPDATES, SECURITY]


def test_only_debian_with_main_counts(tmp_path: Path) -> None:
    other = "deb http://other.example cloud-sdk main\ndeb http://other.example bookworm-backports main\n"
    other += "deb http://other.example bookworm contrib\n"
    assert sources(etc(tmp_path, other_list=other, list=MAIN + "\n", ignored_save="deb http://x bookworm main\n")) == [MAIN]


def test_another_release_lends_its_mirror(tmp_path: Path) -> None:
    text = MAIN.replace("bookworm", "trixie") + "\n" + SECURITY.replace("bookworm", "trixie") + "\n"
    assert sources(etc(tmp_path, list=text)) == [MAIN, SECURITY]


def test_a_mirror_list_is_read(tmp_path: Path) -> None:
    mirrors = tmp_path / "debian.list"
    mirrors.write_text("http://mirror.example/debian\n")
    assert sources(etc(tmp_path, list=f"deb mirror+file:{mirrors} bookworm main\n")) == [MAIN]


def test_no_mirror_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Debian mirror with the component main"):
        sources(etc(tmp_path, list=UPDATES + "\n"))
