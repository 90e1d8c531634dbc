"""A test that needs a program is skipped aloud where it is missing, and CI installs the program or fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import LIST, REQUIRE, debian_packages

ROOT = LIST.parents[1]
BASH = "/bin/bash"
TEST = """
import pytest

@pytest.mark.needs_program("{program}")
def test_with_a_program() -> None: ...
"""


def run_pytest(folder: Path, *, program: str = "node", found: bool = False, require: str = "") -> tuple[int, str]:
    """Run one test that needs a program, with a PATH on which it is found or not."""
    path = folder / "path"
    path.mkdir()
    if found:
        command(path, program, "exit 0")
    (folder / "test_it.py").write_text(TEST.format(program=program))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-rs", "--strict-markers", "."],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": str(path), "PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", REQUIRE: require},
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def command(folder: Path, name: str, script: str) -> None:
    """Put a program into a folder."""
    (folder / name).write_text(f"#!{BASH}\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_test_runs_where_its_program_is_there(tmp_path) -> None:
    code, output = run_pytest(tmp_path, found=True, require="1")
    assert code == 0, output
    assert "1 passed" in output


def test_a_test_without_its_program_is_skipped_with_the_package_to_install(tmp_path) -> None:
    code, output = run_pytest(tmp_path)
    assert code == 0, output
    assert "1 skipped" in output
    assert "NOT TESTED HERE: there is no node; install Debian's package nodejs" in output


def test_in_ci_a_test_without_its_program_fails(tmp_path) -> None:
    code, output = run_pytest(tmp_path, require="1")
    assert code == 1, output
    assert f"there is no node, and {REQUIRE} is set" in output


def test_a_program_that_ci_would_not_install_fails_its_test_even_where_it_is_there(tmp_path) -> None:
    code, output = run_pytest(tmp_path, program="unheard-of", found=True)
    assert code == 1, output
    assert "unheard-of is not in requirements/programs.txt" in output


class Machine:
    """A machine with the given programs, and an apt-get that notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "path"
        self.path.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()
        for name in ("bash", "dirname", "grep", "env"):
            (self.path / name).symlink_to(next(p for p in (Path("/bin", name), Path("/usr/bin", name)) if p.exists()))
        self.be(0)

    def be(self, user: int) -> None:
        command(self.path, "id", f"echo {user}")

    def has(self, *programs: str) -> None:
        for name in programs:
            command(self.path, name, "exit 0")

    def has_apt(self, script: str = "") -> None:
        command(self.path, "apt-get", f'echo "apt-get $*" >> {self.calls}\n{script}')

    def has_sudo(self) -> None:
        command(self.path, "sudo", f'echo "sudo" >> {self.calls}\nshift\nexec "$@"')

    def install(self) -> tuple[list[str], str]:
        """Run the script; it must not fail. Give what it called, and what it said."""
        ended = subprocess.run(
            [BASH, ROOT / ".ci" / "install-programs"], env={"PATH": str(self.path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return self.calls.read_text().splitlines(), ended.stdout + ended.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


INSTALL = "apt-get -qq install --yes --no-install-recommends"


def test_where_nothing_is_missing_nothing_is_installed(machine) -> None:
    machine.has(*debian_packages())
    machine.has_apt()
    assert machine.install() == ([], "")


def test_only_what_is_missing_is_installed(machine) -> None:
    missing, *there = debian_packages()
    machine.has(*there)
    machine.has_apt(f"/bin/ln -s {BASH} {machine.path}/{missing}")
    calls, said = machine.install()
    assert calls == [f"{INSTALL} {debian_packages()[missing]}"]
    assert "WARNING" not in said


def test_missing_package_lists_are_fetched_and_the_install_is_tried_again(machine) -> None:
    machine.has(*list(debian_packages())[1:])
    package = next(iter(debian_packages().values()))
    machine.has_apt(f'case "$*" in *update*) echo > {machine.path}/lists;; esac\n[ -e {machine.path}/lists ]')
    calls, _ = machine.install()
    assert calls == [f"{INSTALL} {package}", "apt-get -qq update", f"{INSTALL} {package}"]


def test_who_is_not_root_installs_with_sudo(machine) -> None:
    machine.be(1000)
    machine.has_sudo()
    machine.has_apt()
    calls, _ = machine.install()
    assert calls == ["sudo", f"{INSTALL} {' '.join(debian_packages().values())}"]


def test_who_may_not_install_is_told_which_tests_will_fail(machine) -> None:
    machine.be(1000)
    machine.has_apt()
    calls, said = machine.install()
    assert calls == []
    for program in debian_packages():
        assert f"WARNING: there is still no {program}; the tests that need it will fail" in said


def test_a_machine_without_apt_is_told_so(machine) -> None:
    _, said = machine.install()
    assert "WARNING: there is still no node" in said


def test_what_npm_brings_is_pinned_without_a_registry() -> None:
    folder = ROOT / "tests" / "node"
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert not [name for name, package in locked.items() if "resolved" in package]
    assert all("integrity" in package for name, package in locked.items() if name)


@pytest.mark.parametrize(("require", "outcome"), [("", "skipped"), ("1", "failed")])
def test_a_test_without_what_npm_brings_is_skipped_aloud_and_fails_in_ci(tmp_path, require, outcome) -> None:
    (tmp_path / "test_it.py").write_text(f"""
from pathlib import Path
from support import node_packages

def test_with_packages() -> None:
    node_packages.INSTALLED = Path({str(tmp_path)!r})
    node_packages.require_node_packages()
""")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", REQUIRE: require},
    )  # fmt: skip
    assert f"1 {outcome}" in ended.stdout, ended.stdout + ended.stderr
    assert "tests/node is not installed" in ended.stdout
