"""Where answers may go: a reply subject is an emitter's input."""

import pytest

from walnatsd.model.reply import may_reply


@pytest.mark.parametrize("subject", ["_INBOX.a", "_INBOX.a.b.c", "replies.x"])
def test_literal_subjects_under_an_allowed_prefix_are_answered(subject: str) -> None:
    assert may_reply(subject, ["_INBOX.", "replies."])


@pytest.mark.parametrize(
    "subject",
    ["", "_INBOX", "_INBOX.", "_INBOX.a.", "_INBOX..a", "_INBOX.*", "_INBOX.>", "_INBOX.a b", "_INBOX.a\r\nPUB x 0",
     "_INBOX.\u00fc", "_inbox.a", "$JS.API.STREAM.DELETE.x", "counts", "X_INBOX.a"],
)  # fmt: skip
def test_everything_else_is_refused(subject: str) -> None:
    assert not may_reply(subject, ["_INBOX.", "replies."])
