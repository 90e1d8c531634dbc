"""Standard Webhooks signatures, judged by the standardwebhooks package and the client's verifier."""

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from walnatsd.model.signing import signing_key
from walnatsd.webhook.signature import signature_headers
from walnatsd_client._signature import is_signed, key_of

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()


def signed(secrets: list[str], body: bytes, now: float) -> dict[str, str]:
    keys = [signing_key(secret) for secret in secrets]
    return {"webhook-id": "msg_1"} | signature_headers(keys, "msg_1", body, now=now)


def test_each_live_secret_verifies_while_another_does_not() -> None:
    headers = signed([NEW, OLD], b'{"a": 1}', time.time())
    for secret in (OLD, NEW):
        assert Webhook(secret).verify('{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 24).decode()).verify('{"a": 1}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify('{"a": 2}', headers)


def test_the_newest_secret_signs_first() -> None:
    both = signed([NEW, OLD], b"1", 1000.9)
    assert both["webhook-timestamp"] == "1000"
    assert both["webhook-signature"].split(" ") == [
        signed([NEW], b"1", 1000)["webhook-signature"],
        signed([OLD], b"1", 1000)["webhook-signature"],
    ]


def test_binary_payloads_verify_with_the_client() -> None:
    body = bytes(range(256))
    headers = signed([NEW], body, 1000)
    assert is_signed(headers, body, [key_of(OLD), key_of(NEW)], now=1001)
    assert not is_signed(headers, body + b"!", [key_of(NEW)], now=1001)


@pytest.mark.parametrize(
    "secret", ["whsec_short", "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_ü", "", "whsec_"]
)
def test_a_secret_that_is_none_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="signing secret") as caught:
        signing_key(secret)
    assert secret.removeprefix("whsec_") == "" or secret not in str(caught.value)
