"""`proto/check.sh`, on repositories with and without a history."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = ("walnatsd/v1", "clients/python/src/walnatsd_client/_proto")
NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid")


class Repository:
    """A repository that holds the contract and its stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("proto", *STUBS):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        self._git("init", "--quiet")
        self.commit()

    def commit(self) -> None:
        self._git("add", "--all")
        self._git(*NOBODY, "commit", "--quiet", "--message", "The contract")

    def change(self, old: str, new: str) -> None:
        """Change the contract; the stubs stay as they are."""
        path = self.folder / "proto/walnatsd/v1/events.proto"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def generate(self) -> None:
        self._run("proto/generate.sh", ".")

    def check(self) -> tuple[int, str]:
        ended = self._run("proto/check.sh", check=False)
        return ended.returncode, ended.stdout

    def _git(self, *arguments: str) -> None:
        self._run("git", *arguments)

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        return subprocess.run(
            command, cwd=self.folder, env=os.environ | {"PATH": path}, check=check,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_single_commit_is_checked_though_there_is_nothing_to_compare_with(repository) -> None:
    code, said = repository.check()
    assert code == 0, said
    assert "linted, no commit before this one to compare with, generated code up to date" in said


def test_a_harmless_change_passes_and_a_breaking_one_is_found(repository) -> None:
    repository.change("  bool spooled = 6;", "  bool spooled = 6;\n  // More.\n  bool more = 7;")
    repository.generate()
    repository.commit()
    code, said = repository.check()
    assert code == 0, said
    assert "linted, nothing broken" in said

    repository.change("  uint64 sequence = 3;", "  uint64 sequence = 9;")
    repository.generate()
    repository.commit()
    code, said = repository.check()
    assert code != 0
    assert "sequence" in said


def test_a_message_without_a_comment_is_found(repository) -> None:
    repository.change("// Limits of an event's stream. A field that is not set is not declared.\n", "")
    code, said = repository.check()
    assert code != 0
    assert 'Message "Limits" should have a non-empty comment' in said


def test_stubs_that_are_not_generated_anew_are_found(repository) -> None:
    repository.change("  bool spooled = 6;", "  bool spooled = 6;\n  // More.\n  bool more = 7;")
    code, said = repository.check()
    assert code != 0
    assert "is not up to date; run: make proto" in said
