"""Signed requests, TLS to the actor, secrets in headers, addresses that are refused."""

import socket
import ssl

import pytest
import trustme

from support.certificates import Authority
from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.raw_server import answer, raw_server
from support.waiting import until
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError

FINE = "HTTP/1.1 204 No Content\r\n\r\n"


def text_for(nats: NatsServer | None, target: str, **options: object) -> str:
    actor = {
        "name": "print",
        "event": "counts",
        "url": target,
        "retry": {"delays": [0.05]},
        "breaker": {"open_for": 0.1},
    }
    return config_text(
        nats.url if nats else "nats://127.0.0.1:1", events=[{"name": "counts"}], actors=[actor | options]
    )


async def attempts(sidecar, outcome: str) -> float:
    name = f'walnatsd_attempts_total{{actor="print",event="counts",outcome="{outcome}"}}'
    return (await sidecar.metrics()).get(name, 0)


async def test_requests_are_signed_with_every_live_secret_and_carry_secret_headers(nats, receiver, tmp_path) -> None:
    import base64

    from standardwebhooks.webhooks import Webhook

    secrets = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
    for number, secret in enumerate(secrets):
        (tmp_path / f"s{number}").write_text(secret + "\n")
    (tmp_path / "auth").write_text("Bearer sesame")
    text = text_for(
        nats, receiver.url,
        signing_secrets=[{"file": "s0"}, {"file": "s1"}],
        headers={"X-Team": "logistics", "Authorization": {"file": "auth"}, "ce-subject": "ours"},
    )  # fmt: skip
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        await sidecar.emit("counts", '{"a": 1}', headers={"ce-subject": "theirs"})
        [received] = await receiver.wait_for(1)
    for secret in secrets:
        assert Webhook(secret).verify(received.body.decode(), received.headers) == {"a": 1}
    assert received.headers["x-team"] == "logistics"
    assert received.headers["authorization"] == "Bearer sesame"
    assert received.headers["ce-subject"] == "ours"


async def test_without_secrets_nothing_is_signed(nats, receiver) -> None:
    async with running(text_for(nats, receiver.url)) as sidecar:
        await sidecar.emit("counts", "1")
        [received] = await receiver.wait_for(1)
    assert not {"webhook-signature", "webhook-timestamp"} & received.headers.keys()


def server_tls(authority: trustme.CA, *, client_authority: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client_authority.configure_trust(context)
    return context


async def test_an_actor_with_a_certificate_of_its_own_authority_wants_a_client_certificate(nats, tmp_path) -> None:
    authority, clients = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = clients.issue_cert("walnatsd.example")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in ours.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    async with raw_server(answer(FINE), server_tls(authority, client_authority=clients)) as server:
        text = text_for(nats, server.url, tls={"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"})
        async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: attempts(sidecar, "acknowledged"))


@pytest.mark.parametrize("asked", ["url", "wait_for"])
@pytest.mark.parametrize("renewed", ["certificate", "authority"])
async def test_certificates_that_are_renewed_are_read_again(
    nats, receiver, tmp_path, monkeypatch, capsys, renewed, asked
) -> None:
    """Before, the actor is unavailable; after the files were replaced it gets its messages, without a reload."""
    monkeypatch.setattr("walnatsd.config.certificates.LOOK_INTERVAL_S", 0.05)
    former, latter, clients = (Authority(tmp_path, name) for name in ("former", "latter", "clients"))
    ours = (former if renewed == "certificate" else clients).pair("ours")
    trusted = former if renewed == "authority" else latter
    server = server_tls(latter.trusted, client_authority=(latter if renewed == "certificate" else clients).trusted)
    async with raw_server(answer(FINE), server) as actor:
        options = {"tls": ours.options(ca_file=trusted.ca)} | ({"wait_for": actor.url} if asked == "wait_for" else {})
        target = actor.url if asked == "url" else receiver.url
        async with running(text_for(nats, target, **options)) as sidecar:
            await sidecar.emit("counts", "1")
            if asked == "url":
                await until(lambda: attempts(sidecar, "unavailable"))
            else:
                await until(lambda: "wait_for does not answer well" in capsys.readouterr().out)
            assert not await attempts(sidecar, "acknowledged")
            if renewed == "certificate":
                ours.replace(latter.issue())
            else:
                former.give_way_to(latter)
            await until(lambda: attempts(sidecar, "acknowledged"))


async def test_wait_for_is_asked_with_the_certificates_of_the_actor(nats, receiver, tmp_path) -> None:
    """Of an actor with an authority of its own, it never answered well, and nothing was delivered."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with raw_server(answer(FINE), server_tls(authority)) as health:
        text = text_for(nats, receiver.url, wait_for=health.url, tls={"ca_file": "ca.pem"})
        async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)


async def test_why_wait_for_does_not_answer_well_is_in_the_log(nats, receiver, capsys) -> None:
    async with (
        raw_server(answer(FINE), server_tls(trustme.CA())) as health,
        running(text_for(nats, receiver.url, wait_for=health.url)),
    ):
        said = await until(lambda: [line for line in capsys.readouterr().out.splitlines() if "wait_for" in line])
    assert "wait_for does not answer well" in said[0]
    assert "CERTIFICATE_VERIFY_FAILED" in said[0]


async def test_a_certificate_of_an_unknown_authority_makes_the_actor_unavailable(nats) -> None:
    async with raw_server(answer(FINE), server_tls(trustme.CA())) as server:
        async with running(text_for(nats, server.url)) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: attempts(sidecar, "unavailable"))
        assert server.requests == 0


@pytest.mark.parametrize("host", ["0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"])
async def test_a_metadata_address_that_is_spelled_oddly_is_refused(nats, host, capsys) -> None:
    async with running(text_for(nats, f"http://{host}:80/latest")) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: attempts(sidecar, "unavailable"))
    log = capsys.readouterr().out
    assert "webhooks there are refused" in log or "not a canonical IPv4 address" in log


async def test_a_name_that_resolves_to_a_metadata_address_is_refused(nats, monkeypatch, capsys) -> None:
    real = socket.getaddrinfo

    def resolve(name: str, *arguments: object, **options: object) -> object:
        return real("169.254.169.254" if name == "actor.invalid" else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with running(text_for(nats, "http://actor.invalid/latest")) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: attempts(sidecar, "unavailable"))
    assert "169.254.169.254 is link-local" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": {"ca_file": "text"}}, "actors[0].tls: "),
        ({"tls": {"cert_file": "text"}}, "are no certificate and its key"),
        ({"tls": {"key_file": "text"}}, "key_file needs cert_file"),
        ({"tls": {"ca_file": "missing"}}, "there is no readable file"),
        ({"signing_secrets": [{"file": "text"}]}, "actors[0].signing_secrets[0]: a signing secret is whsec_"),
        ({"signing_secrets": ["whsec_AAAA"]}, "never stands in the file itself"),
        ({"headers": {"X-A": {"file": "lines"}}}, "actors[0].headers.X-A: the value of header 'X-A' holds a control"),
        ({"url": "http://169.254.169.254/latest"}, "actors[0].url: 169.254.169.254 is link-local"),
        ({"wait_for": "http://[::ffff:a9fe:a9fe]/"}, "actors[0].wait_for: ::ffff:a9fe:a9fe is link-local"),
    ],
)
def test_what_cannot_be_used_is_found_before_anything_starts(options, words, tmp_path) -> None:
    (tmp_path / "text").write_text("no secret")
    (tmp_path / "lines").write_text("a\r\nb")
    with pytest.raises(ConfigError) as caught:
        load_text(text_for(None, "http://127.0.0.1:1/", **options), file=str(tmp_path / "walnatsd.yaml"), environ={})
    assert words in str(caught.value)
    assert "no secret" not in str(caught.value)
