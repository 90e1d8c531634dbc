"""The table of scopes in docs/tokens.md is the one that the daemon goes by."""

import re
from pathlib import Path

from support.described import admin_description, http_description
from walnatsd.api import access
from walnatsd.api.access import needed_for

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"
HEAD = "| gRPC | HTTP | scope |\n|---|---|---|\n"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
NOT_ON_THE_PAGE = {"enter-dashboard"}
ALL = {"emit", "act", "admin"}


def table() -> dict[str, set[str]]:
    """The scopes of each operation by the page: gRPC methods as service/method, calls over HTTP by their names."""
    names = {
        f"{method.upper()} {path}": operation["operationId"]
        for described in (http_description(), admin_description())
        for path, methods in described.data["paths"].items()
        for method, operation in methods.items()
    }
    found: dict[str, set[str]] = {}
    for row in PAGE.read_text().partition(HEAD)[2].partition("\n\n")[0].splitlines():
        grpc, http, scope = (cell.strip() for cell in row.strip("|").split("|"))
        scopes = ALL if scope == "any" else set() if scope == "no token" else set(re.findall(r"`(\w+)`", scope))
        methods = [f"walnatsd.v1.{name}" for name in re.findall(r"`(\w+/\w+)`", grpc)]
        methods += [REFLECTION] if grpc == "server reflection" else []
        for name in [*methods, *(names[call] for call in re.findall(r"`([A-Z]+ /[^`]+)`", http))]:
            found[name] = scopes
    return found


def test_what_the_page_says_is_what_the_daemon_asks_for() -> None:
    for name, scopes in table().items():
        assert needed_for(name) == scopes, name


def test_the_page_names_everything_that_is_not_for_administrators_by_default() -> None:
    assert set(access._NEEDS) - set(table()) == NOT_ON_THE_PAGE


def test_everything_under_admin_is_for_administrators() -> None:
    for path, methods in admin_description().data["paths"].items():
        for operation in methods.values():
            if path.startswith("/admin/v1/"):
                assert needed_for(operation["operationId"]) == {"admin"}
