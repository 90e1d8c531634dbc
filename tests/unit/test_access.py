"""Tokens and scopes, without servers."""

import hmac
from pathlib import Path

import pytest

from walnatsd.api import access
from walnatsd.api.access import Access, needed_for
from walnatsd.config.load import Loaded, load_text
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics


def loaded(folder: Path, **tokens: list[str]) -> Loaded:
    """A config with these tokens and their scopes."""
    for token in tokens:
        (folder / token).write_text(token)
    entries = [{"token": {"file": token}, "scopes": scopes} for token, scopes in tokens.items()]
    return load_text(f"auth: {{tokens: {entries}}}", file=str(folder / "walnatsd.yaml"), environ={})


def verdict(asked: Access, authorization: str | None, operation: str = "emit") -> Reason | None:
    try:
        asked.check(authorization, needed_for(operation))
    except Refusal as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("Bearer sesame", None), ("bearer sesame", None), ("BEARER   sesame ", None),
        (None, Reason.TOKEN), ("", Reason.TOKEN), ("Bearer", Reason.TOKEN), ("Bearer ", Reason.TOKEN),
        ("sesame", Reason.TOKEN), ("Basic sesame", Reason.TOKEN), ("Bearer Sesame", Reason.TOKEN),
        ("Bearer sesam", Reason.TOKEN), ("Bearer sesame2", Reason.TOKEN), ("Bearer sesame sesame", Reason.TOKEN),
        ("Bearer \udcff", Reason.TOKEN), ("Bearer " + chr(0xD800), Reason.TOKEN), ("Bearer " + "x" * 100_000, Reason.TOKEN),
    ],
)  # fmt: skip
def test_only_a_whole_token_with_its_scheme_opens(tmp_path, authorization, reason) -> None:
    assert verdict(Access(loaded(tmp_path, sesame=["emit"]), Metrics()), authorization) is reason


def test_scopes_do_not_include_each_other(tmp_path) -> None:
    asked = Access(loaded(tmp_path, sesame=["admin"], simsim=["emit", "act"]), Metrics())
    assert verdict(asked, "Bearer sesame", "emit") is Reason.SCOPE
    assert verdict(asked, "Bearer simsim", "emit") is None
    assert verdict(asked, "Bearer simsim", "monitor") is None
    assert verdict(asked, "Bearer simsim", "reload") is Reason.SCOPE
    assert verdict(asked, "Bearer sesame", "a path that nobody has named") is None
    assert verdict(asked, None, "readyz") is None


def test_tokens_are_compared_by_digests_of_a_key_that_differs_in_each_daemon(tmp_path, monkeypatch) -> None:
    """Neither looking a token up nor comparing it can tell a caller how much of it was right."""
    compared: list[tuple[bytes, bytes]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    config = loaded(tmp_path, sesame=["emit"])
    for each in (Access(config, Metrics()), Access(config, Metrics())):
        assert verdict(each, "Bearer sesame") is None
        assert b"sesame" not in b"".join(each._tokens)
    [(first, also_first), (second, also_second)] = compared
    assert (first, second) == (also_first, also_second)
    assert first != second


def test_what_lasts_is_ended_once_its_token_is_gone_and_not_after_it_has_ended(tmp_path) -> None:
    asked = Access(loaded(tmp_path, sesame=["act"], simsim=["act"]), Metrics())
    ended: list[str] = []
    needed = needed_for("monitor")
    with asked.holding("Bearer sesame", needed, lambda why: ended.append(f"sesame {why.reason}")):
        with asked.holding("Bearer simsim", needed, lambda _: ended.append("simsim")):
            pass
        asked.use(loaded(tmp_path, simsim=["emit"]))
        assert ended == ["sesame TOKEN"]
    with pytest.raises(Refusal), asked.holding("Bearer sesame", needed, lambda _: ended.append("again")):
        raise AssertionError("it was let in")
    with asked.holding("Bearer simsim", needed_for("emit"), lambda why: ended.append(f"simsim {why.reason}")):
        asked.use(loaded(tmp_path, simsim=["act"]))
    assert ended == ["sesame TOKEN", "simsim SCOPE"]
