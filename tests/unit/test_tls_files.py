"""PEM files of TLS: what can't be used is found before anything starts, and what is replaced is read again."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from support.certificates import FAR_AHEAD, LONG_AGO, Authority
from walnatsd.cli import main
from walnatsd.config import certificates
from walnatsd.config.certificates import Certificates
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError
from walnatsd.config.tls import TlsFiles, load_tls

SERVERS = ("grpc", "http", "admin")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def write_config(folder: Path, section: str, options: dict[str, str]) -> str:
    pairs = ", ".join(f"{name}: {value}" for name, value in options.items())
    text = f"{section}: {{tls: {{{pairs}}}}}"
    if section == "actors":
        text = f"events: [{{name: e}}]\nactors: [{{name: a, event: e, url: 'https://h/', tls: {{{pairs}}}}}]"
    (folder / "walnatsd.yaml").write_text(text)
    return str(folder / "walnatsd.yaml")


def problem_of(folder: Path, section: str, options: dict[str, str]) -> str:
    """What `walnatsd check` says of a section's certificates."""
    result = CliRunner().invoke(main, ["check", "-c", write_config(folder, section, options)])
    assert result.exit_code == 2, result.output
    [line] = [line for line in result.stderr.splitlines() if "tls" in line]
    return line


@pytest.mark.parametrize("section", [*SERVERS, "nats", "actors"])
def test_a_key_of_another_certificate_is_told_with_both_paths(authority, tmp_path, section) -> None:
    pair, other = authority.pair("one"), authority.pair("other")
    told = problem_of(tmp_path, section, pair.options(key_file=other.key))
    place = "actors[0].tls" if section == "actors" else f"{section}.tls"
    assert f"{place}: {pair.cert} and {other.key} are no certificate and its key" in told
    assert "the key belongs to another certificate" in told


@pytest.mark.parametrize("section", SERVERS)
def test_a_certificate_of_a_server_that_is_not_valid_now_is_an_error(authority, tmp_path, section) -> None:
    expired, early = authority.pair("expired", expires=LONG_AGO), authority.pair("early", begins=FAR_AHEAD)
    told = problem_of(tmp_path, section, expired.options())
    assert f"{section}.tls: the certificate in {expired.cert} has expired, on 2020-01-02T00:00:00Z; renew it" in told
    told = problem_of(tmp_path, section, early.options())
    assert f"{section}.tls: the certificate in {early.cert} is not valid before 2190-01-02T00:00:00Z" in told


@pytest.mark.parametrize("section", ["nats", "actors"])
def test_a_clients_certificate_that_has_expired_is_a_warning_as_all_else_works(authority, tmp_path, section) -> None:
    expired = authority.pair("expired", expires=LONG_AGO)
    result = CliRunner().invoke(main, ["check", "-c", write_config(tmp_path, section, expired.options())])
    assert result.exit_code == 0, result.output
    assert f"the certificate in {expired.cert} has expired, on 2020-01-02T00:00:00Z; renew it" in result.stderr


def test_files_that_hold_something_else_are_told_with_their_paths(authority, tmp_path) -> None:
    pair, text = authority.pair("one"), tmp_path / "text"
    text.write_text("hello")
    for options, words in (
        (pair.options(key_file=str(text)), f"{pair.cert} and {text} are no certificate and its key"),
        (pair.options(cert_file=str(text)), f"{text} and {pair.key} are no certificate and its key"),
        (pair.options(client_ca_file=str(text)), f"{text} holds no certificates in PEM form"),
        (pair.options(client_ca_file=pair.key), f"{pair.key} holds no certificates in PEM form"),
        (pair.options(client_ca_file=str(tmp_path / "none")), f"there is no readable file {tmp_path / 'none'}"),
        (pair.options(key_file=str(tmp_path)), f"there is no readable file {tmp_path}"),
    ):
        assert words in problem_of(tmp_path, "http", options)


def test_a_key_that_is_encrypted_is_told_and_no_password_is_asked_for(authority, tmp_path) -> None:
    from cryptography.hazmat.primitives import serialization as keys

    pair = authority.pair("one")
    key = keys.load_pem_private_key(Path(pair.key).read_bytes(), None)
    encrypted = keys.BestAvailableEncryption(b"sesame")
    Path(pair.key).write_bytes(key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.PKCS8, encrypted))
    assert f"{pair.key} holds a key that is encrypted; store it decrypted" in problem_of(
        tmp_path, "http", pair.options()
    )


def test_a_certificate_that_is_for_clients_only_is_none_for_a_server(authority, tmp_path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(LONG_AGO)
        .not_valid_after(FAR_AHEAD)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    told = problem_of(tmp_path, "http", {"cert_file": "c.pem", "key_file": "k.pem"})
    assert f"the certificate in {tmp_path / 'c.pem'} is none for a server (" in told
    assert load_tls(TlsFiles(str(tmp_path / "c.pem"), str(tmp_path / "k.pem"), None)).context


def test_what_a_section_of_tls_needs(authority, tmp_path) -> None:
    pair = authority.pair("one")
    with pytest.raises(ConfigError, match=r"http\.tls\.key_file: is required"):
        load_text(f"http: {{tls: {{cert_file: {pair.cert}}}}}", file=None, environ={})


# ---- read again


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(files: TlsFiles, clock: Clock, epoch_s: float = 1.6e9) -> Certificates:
    return Certificates("http", files, monotonic=clock, now=lambda: epoch_s)


def test_files_are_looked_at_when_asked_for_and_not_more_often_than_an_interval(authority) -> None:
    pair, clock = authority.pair("server"), Clock()
    read = opened(TlsFiles(pair.cert, pair.key, None, for_server=True), clock)
    before = read.current()
    pair.replace(authority.issue())
    assert read.current() is before
    clock.now += certificates.LOOK_INTERVAL_S
    after = read.current()
    assert after is not before
    assert after.contents[0] == Path(pair.cert).read_bytes()
    clock.now += certificates.LOOK_INTERVAL_S
    assert read.current() is after


def test_half_a_pair_changes_nothing_until_the_other_half_is_there(authority) -> None:
    pair, clock, renewed = authority.pair("server"), Clock(), authority.issue()
    read = opened(TlsFiles(pair.cert, pair.key, None, for_server=True), clock)
    before = read.current()
    pair.replace_key(renewed)
    clock.now += certificates.LOOK_INTERVAL_S
    assert read.current() is before
    assert "the key belongs to another certificate" in read.problem
    pair.replace_certificate(renewed)
    clock.now += certificates.LOOK_INTERVAL_S
    assert read.current() is not before
    assert read.problem == ""


def test_former_files_that_come_back_are_no_problem(authority) -> None:
    pair, clock = authority.pair("server"), Clock()
    read = opened(TlsFiles(pair.cert, pair.key, None, for_server=True), clock)
    before, former = read.current(), Path(pair.cert).read_bytes()
    Path(pair.cert).write_text("")
    clock.now += certificates.LOOK_INTERVAL_S
    assert read.problem
    Path(pair.cert).write_bytes(former)
    clock.now += certificates.LOOK_INTERVAL_S
    assert read.problem == ""
    assert read.current() is before


def test_a_file_that_is_replaced_while_it_is_read_is_not_used(authority, monkeypatch) -> None:
    pair = authority.pair("server")
    contents = iter([(b"1",), (b"2",)])
    monkeypatch.setattr(TlsFiles, "read", lambda _self: next(contents))
    with pytest.raises(ValueError, match="replaced while they were read"):
        load_tls(TlsFiles(pair.cert, pair.key, None))


def test_a_clients_certificate_is_used_even_when_it_has_expired_and_a_servers_is_not(authority) -> None:
    pair, clock = authority.pair("client"), Clock()
    as_client = opened(TlsFiles(pair.cert, pair.key, authority.ca), clock)
    as_server = opened(TlsFiles(pair.cert, pair.key, None, for_server=True), clock)
    before = as_server.current()
    pair.replace(authority.issue(expires=LONG_AGO))
    clock.now += certificates.LOOK_INTERVAL_S
    assert as_client.current().valid_until == "2020-01-02T00:00:00Z"
    assert as_server.current() is before
