"""Proving to NATS who we are: what works, and how it is explained where it does not."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.certificates import Authority
from support.daemon import Sidecar, config_text, running
from support.identities import Identity, Operator, write
from support.nats_server import NatsServer, nats_server
from support.waiting import until
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError

REFUSED = "it refuses the credentials; see nats.user"


def config(url: str, **options: Any) -> str:
    return config_text(url, nats=options, events=[{"name": "counts"}])


async def says(sidecar: Sidecar, text: str) -> bool:
    return text in (await sidecar.readiness())[1].get("nats", "")


async def works(text: str) -> None:
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")


async def is_explained(text: str, words: str) -> None:
    async with running(text, ready=False) as sidecar:
        await until(lambda: says(sidecar, words))


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that wants a password."""
    options = {"authorization": {"user": "someone", "password": "right"}}
    async with nats_server(tmp_path / "nats", options=options) as server:
        yield server


async def test_user_and_password(guarded, tmp_path) -> None:
    right, wrong = ({"file": write(tmp_path / word, word)} for word in ("right", "wrong"))
    await works(config(guarded.url, user="someone", password=right))
    await is_explained(config(guarded.url, user="someone", password=wrong), REFUSED)
    await is_explained(config(guarded.url), REFUSED)


async def test_a_token(tmp_path) -> None:
    right, wrong = ({"file": write(tmp_path / word, word)} for word in ("right", "wrong"))
    async with nats_server(tmp_path / "nats", options={"authorization": {"token": "right"}}) as nats:
        await works(config(nats.url, token=right))
        await is_explained(config(nats.url, token=wrong), REFUSED)


async def test_an_nkey_seed(tmp_path) -> None:
    known, unknown = Identity.new(), Identity.new()
    options = {"authorization": {"users": [{"nkey": known.public}]}}
    async with nats_server(tmp_path / "nats", options=options) as nats:
        await works(config(nats.url, nkey_seed_file=write(tmp_path / "known", known.seed)))
        await is_explained(config(nats.url, nkey_seed_file=write(tmp_path / "unknown", unknown.seed)), REFUSED)
        damaged = write(tmp_path / "damaged", known.seed[:-4])
        await is_explained(config(nats.url, nkey_seed_file=damaged), f"the NKey seed in {damaged} is damaged")


async def test_a_credentials_file(tmp_path) -> None:
    operator, other = Operator(), Operator()
    async with nats_server(tmp_path / "nats", options=operator.server_options) as nats:
        await works(config(nats.url, credentials_file=write(tmp_path / "known", operator.credentials())))
        await is_explained(config(nats.url, credentials_file=write(tmp_path / "other", other.credentials())), REFUSED)


async def test_a_damaged_credentials_file_is_explained_and_read_again_when_it_is_repaired(tmp_path) -> None:
    """The library's own reading loops for ever over a file without a JWT."""
    operator = Operator()
    file = write(tmp_path / "credentials", "")
    async with (
        nats_server(tmp_path / "nats", options=operator.server_options) as nats,
        running(config(nats.url, credentials_file=file), ready=False) as sidecar,
    ):
        await until(lambda: says(sidecar, f"{file} has no NKey seed: it is no credentials file, or is damaged"))
        write(tmp_path / "credentials", operator.credentials().replace("BEGIN NATS USER JWT", "BEGIN"))
        await until(lambda: says(sidecar, f"{file} has no JWT"))
        (tmp_path / "credentials").unlink()
        await until(lambda: says(sidecar, f"can't read {file}: No such file or directory"))
        write(tmp_path / "credentials", operator.credentials())
        await until(sidecar.is_ready)


@pytest.mark.parametrize("option", ["nkey_seed_file", "credentials_file"])
def test_a_missing_nkeys_library_is_a_config_error_that_names_the_extra(tmp_path, monkeypatch, option) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    text = config("nats://127.0.0.1:1", **{option: write(tmp_path / "file", "S")})
    with pytest.raises(ConfigError, match=rf"nats\.{option}.*pip install 'walnatsd\[nkeys\]'"):
        load_text(text, file=None, environ={})


async def test_credentials_that_are_revoked_while_connected_are_explained_and_may_come_back(guarded, tmp_path) -> None:
    """The library closes for good then."""
    before = guarded._options
    right = {"file": write(tmp_path / "right", "right")}
    async with running(config(guarded.url, user="someone", password=right)) as sidecar:
        guarded.reload({"authorization": {"user": "someone", "password": "another"}})
        await until(lambda: says(sidecar, REFUSED))
        guarded.reload(before)
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "1")


# ---- TLS


class Certificates:
    """Files of an authority, a server and a client."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("someone@localhost")
        self.ca, self.cert, self.key = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        self.client_cert, self.client_key = str(folder / "client.pem"), str(folder / "client-key.pem")
        authority.cert_pem.write_to_path(self.ca)
        server.cert_chain_pems[0].write_to_path(self.cert)
        server.private_key_pem.write_to_path(self.key)
        client.cert_chain_pems[0].write_to_path(self.client_cert)
        client.private_key_pem.write_to_path(self.client_key)

    def server_options(self, *, verify: bool = False) -> dict[str, Any]:
        return {"tls": {"cert_file": self.cert, "key_file": self.key, "ca_file": self.ca, "verify": verify}}

    def client(self, **options: str) -> dict[str, Any]:
        return {"ca_file": self.ca, "cert_file": self.client_cert, "key_file": self.client_key} | options


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_tls_with_an_authority_of_our_own(certificates, tmp_path) -> None:
    async with nats_server(tmp_path / "nats", options=certificates.server_options()) as nats:
        await works(config(nats.url, tls={"ca_file": certificates.ca}))
        await works(config(nats.url.replace("nats:", "tls:"), tls={"ca_file": certificates.ca}))
        await is_explained(config(nats.url), "its certificate is not trusted (unable to get local issuer certificate)")
        wrong_name = config(nats.url, tls={"ca_file": certificates.ca, "hostname": "elsewhere"})
        await is_explained(wrong_name, "see nats.tls.ca_file and nats.tls.hostname")
        await works(config(nats.url, tls={"ca_file": certificates.ca, "hostname": "localhost"}))


async def test_tls_with_a_client_certificate(certificates, tmp_path) -> None:
    async with nats_server(tmp_path / "nats", options=certificates.server_options(verify=True)) as nats:
        await works(config(nats.url, tls=certificates.client()))
        without = config(nats.url, tls={"ca_file": certificates.ca})
        await is_explained(without, "see nats.tls, which may need cert_file and key_file")


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(certificates, nats) -> None:
    """The library would send the credentials in clear text."""
    await is_explained(config(nats.url, tls={"ca_file": certificates.ca}), "the server offers no TLS")
    await is_explained(config(nats.url.replace("nats:", "tls:")), "the server offers no TLS")


async def test_certificates_that_cannot_be_used_are_a_config_error(certificates) -> None:
    another_key = certificates.client(key_file=certificates.key)
    no_authority = {"ca_file": certificates.key}
    for tls, words in ((another_key, "no certificate and its key"), (no_authority, "holds no certificates")):
        with pytest.raises(ConfigError, match=rf"nats\.tls.*{words}"):
            load_text(config("nats://127.0.0.1:1", tls=tls), file=None, environ={})


async def test_certificates_that_were_renewed_are_read_when_the_connection_is_made_again(tmp_path, monkeypatch) -> None:
    """Authority, server and client are renewed while the connection is away; then only what is in the files now will do."""
    monkeypatch.setattr("walnatsd.config.certificates.LOOK_INTERVAL_S", 0.05)
    before, after = Authority(tmp_path, "ca"), Authority(tmp_path, "after")
    server, ours = before.pair("server"), before.pair("ours")
    options = {"tls": server.options(ca_file=before.ca, verify=True)}
    async with (
        nats_server(tmp_path / "nats", options=options) as nats,
        running(config(nats.url, tls=ours.options(ca_file=before.ca))) as sidecar,
    ):
        await sidecar.emit("counts", "1")
        await nats.stop()
        server.replace(after.issue())
        before.give_way_to(after)
        ours.replace_certificate(after.issue())  # half of it: the former pair is not trusted any more
        await nats.start()
        await until(lambda: says(sidecar, "its certificate is not trusted"))
        ours.replace(after.issue())
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "2")
