"""docs/client.md: its code runs, from top to bottom, against the daemon."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from support.certificates import Authority
from support.daemon import config_text, running

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


async def test_all_code_of_the_page_runs_in_its_order(
    nats, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page's certificates lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    authority.pair("shop")
    tls = authority.pair("sidecar").options(client_ca_file=authority.ca)
    names: dict[str, object] = {"__name__": "client_page"}
    async with (
        running(config_text(nats.url)) as sidecar,
        running(config_text(nats.url, events=[{"name": "counts"}], grpc={"tls": tls})) as remote,
    ):
        blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        for block in blocks:
            code = compile(
                block.replace("127.0.0.1:7520", sidecar.grpc).replace("sidecars.example:7520", remote.grpc),
                "client.md",
                "exec",
                ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result
    assert len(blocks) == PAGE.count("```python")
    assert "True () ()" in capsys.readouterr().out
    assert len(names["receipts"]) == 1000  # type: ignore[arg-type]
