"""Test that a symbolic link out of the landing folder is refused."""

from __future__ import annotations

import sys
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from daybook.cli import main
from daybook.errors import LinkError
from daybook.records.archive import Archive
from daybook.scheduling.gaps import find_gaps
from daybook.sources import LandingStore
from tests.faults.conftest import Shop

DAY = "2025-01-02"


@pytest.fixture
def landing(shop: Shop, tmp_path: Path) -> Path:
    """Return a landing folder with a day's file, beside a file and a folder of the same content."""
    (tmp_path / "outside/sub").mkdir(parents=True)
    (tmp_path / "outside/sub/secret.csv").write_text("password\nhunter2\n")
    folder = Path(shop.settings().landing)
    folder.mkdir(parents=True)
    (folder / "inside").mkdir()
    (folder / "inside/file.csv").write_text("a\n1\n")
    return folder


LINKS = ["outside/sub/secret.csv", "outside", "outside/sub", "outside/absent.csv", "."]


@pytest.mark.parametrize("target", LINKS)
@pytest.mark.parametrize("link", ["sales.csv", "inside/sales.csv"])
def test_link_out_of_landing_fails_the_stage(landing: Path, shop: Shop, tmp_path: Path, target: str, link: str) -> None:
    (landing / link).symlink_to(tmp_path / target)
    with pytest.raises(LinkError) as caught:
        shop.run(DAY)
    assert str(caught.value) == (
        f"{landing}/{link} is reached by a symbolic link to {(tmp_path / target).resolve()}, outside of the landing folder; "
        "deliver the file itself, or remove the link."
    )


def test_command_refuses_the_link_before_a_run(
    landing: Path, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (landing / "sales.csv").symlink_to(tmp_path / "outside/sub/secret.csv")
    monkeypatch.setattr(sys, "argv", ["daybook", "run", "--env", "odd", "--date", DAY])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (1, 1)
    assert "is reached by a symbolic link" in error
    assert not Archive(shop.settings().archive).run_ids()
    with pytest.raises(LinkError):
        find_gaps(shop.settings(), now=datetime.now(timezone.utc), since=date(2025, 1, 2), until=date(2025, 1, 2))


@pytest.mark.parametrize("read", [LandingStore.read, LandingStore.read_with_version_tag, LandingStore.version_tag])
@pytest.mark.parametrize("key", ["sales.csv", "folder/sub/secret.csv"])
def test_link_created_later_is_refused_at_reading(landing: Path, tmp_path: Path, read: object, key: str) -> None:
    store = LandingStore(str(landing))
    store.require_no_outside_links()
    (landing / "sales.csv").symlink_to(tmp_path / "outside/sub/secret.csv")
    (landing / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(LinkError):
        read(store, key)  # type: ignore[operator]


def test_link_within_landing_is_followed(landing: Path) -> None:
    (landing / "alias.csv").symlink_to("inside/file.csv")
    (landing / "folder").symlink_to("inside")
    store = LandingStore(str(landing))
    store.require_no_outside_links()
    assert store.read("alias.csv") == store.read("folder/file.csv") == b"a\n1\n"


def test_landing_folder_can_be_a_link(landing: Path, tmp_path: Path) -> None:
    (tmp_path / "drops").symlink_to(landing)
    store = LandingStore(str(tmp_path / "drops"))
    store.require_no_outside_links()
    assert store.read("inside/file.csv") == b"a\n1\n"


def test_circular_links_are_refused(landing: Path, shop: Shop) -> None:
    (landing / "sales.csv").symlink_to("other.csv")
    (landing / "other.csv").symlink_to("sales.csv")
    with pytest.raises(LinkError, match=r"csv is reached by a cycle of symbolic links; remove them\.$"):
        LandingStore(str(landing)).require_no_outside_links()
