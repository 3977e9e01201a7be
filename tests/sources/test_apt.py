import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_packages import Publish, needs_apt

from metavox.errors import UserError
from metavox.sources import apt

pytestmark = needs_apt
FILES = {"usr/share/words/hello.wav": b"some sound"}


def ignore(_offer: apt.Offer) -> None:
    pass


def test_download_and_unpack(repository: Publish, lists: Callable[[], None], tmp_path: Path) -> None:
    repository("spoken-words", "1.0-1", FILES)
    lists()
    (deb,) = apt.download(apt.offers({"spoken-words": "1.0-1"}), tmp_path, ignore)
    apt.unpack(deb, tmp_path / "unpacked")
    assert (tmp_path / "unpacked/usr/share/words/hello.wav").read_bytes() == b"some sound"
    assert [p.name for p in tmp_path.glob("*.deb")] == ["spoken-words_1.0-1_all.deb"]


def test_a_downloaded_package_is_used_again_and_a_damaged_one_is_not(
    repository: Publish, lists: Callable[[], None], tmp_path: Path
) -> None:
    repository("spoken-words", "1.0-1", FILES)
    lists()
    offers = apt.offers({"spoken-words": "1.0-1"})
    (deb,) = apt.download(offers, tmp_path, ignore)
    whole, inode = deb.read_bytes(), deb.stat().st_ino
    apt.download(offers, tmp_path, ignore)
    assert deb.stat().st_ino == inode
    deb.write_bytes(whole[:-1] + b"?")
    apt.download(offers, tmp_path, ignore)
    assert deb.read_bytes() == whole


def test_version_with_an_epoch_has_the_file_name_apt_gives_it() -> None:
    offer = apt.Offer("spoken-words", "1:1.4+mm~2", "all", 1, "")
    assert offer.file == "spoken-words_1%3a1.4+mm~2_all.deb"


def test_unknown_package_is_named(repository: Publish, lists: Callable[[], None]) -> None:
    repository("spoken-words", "1.0-1", FILES)
    lists()
    with pytest.raises(UserError, match=r"^package no-such-words: not found by apt; .*apt-get update$"):
        apt.offers({"spoken-words": "1.0-1", "no-such-words": "1"})


def test_changed_version_is_named_and_used_only_if_accepted(
    repository: Publish, lists: Callable[[], None], tmp_path: Path
) -> None:
    repository("spoken-words", "2.0-1", FILES)
    lists()
    with pytest.raises(UserError, match=r"spoken-words is 2\.0-1, not 1\.0-1; .*--accept-new-versions"):
        apt.offers({"spoken-words": "1.0-1"})
    (offer,) = apt.offers({"spoken-words": "1.0-1"}, accept_new_versions=True)
    assert offer.version == "2.0-1"


def test_pinned_version_is_preferred_to_a_newer_one(repository: Publish, lists: Callable[[], None]) -> None:
    repository("spoken-words", "1.0-1", FILES)
    repository("spoken-words", "2.0-1", FILES)
    lists()
    assert [offer.version for offer in apt.offers({"spoken-words": "1.0-1"})] == ["1.0-1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root updates lists")
def test_root_without_lists_fetches_them(repository: Publish) -> None:
    repository("spoken-words", "1.0-1", FILES)
    assert [offer.name for offer in apt.offers({"spoken-words": "1.0-1"})] == ["spoken-words"]


def test_the_error_for_an_ordinary_user_without_lists_says_what_to_run(repository: Publish) -> None:
    repository("spoken-words", "1.0-1", FILES)
    message = as_ordinary_user(lambda: apt.offers({"spoken-words": "1.0-1"}))
    assert message == "apt has no package lists; run: sudo apt-get update"


def test_a_failed_download_is_a_one_line_error(
    repository: Publish, lists: Callable[[], None], tmp_path: Path
) -> None:
    repository("spoken-words", "1.0-1", FILES)
    lists()
    offers = apt.offers({"spoken-words": "1.0-1"})
    Path(
        re.findall(
            r"file:(\S+)",
            Path(os.environ["APT_CONFIG"]).with_name("etc").joinpath("sources.list").read_text(),
        )[0],
        "spoken-words_1.0-1_all.deb",
    ).unlink()
    with pytest.raises(UserError, match=r"^package spoken-words 1\.0-1: download failed \(E: [^\n]*\)$"):
        apt.download(offers, tmp_path, ignore)
    assert not list(tmp_path.iterdir())


def test_without_apt_the_message_suggests_other_recordings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^no apt-get on this machine.*path,text,speaker,language.*dvc add data$"
    ):
        apt.offers({"saytime": "1.0-35+b1"})


def as_ordinary_user(call: Callable[[], object]) -> str:
    """The message of the UserError that `call` raises for a user other than root."""
    if os.geteuid() != 0:
        with pytest.raises(UserError) as raised:
            call()
        return str(raised.value)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setuid(65534)
            call()
            message = "nothing was raised"
        except UserError as error:
            message = str(error)
        finally:
            os.write(write, message.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    return message
