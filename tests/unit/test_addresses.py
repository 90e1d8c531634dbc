"""Cloud metadata and link-local addresses are refused in all spellings, everything else is allowed."""

import pytest

from walnatsd.model.addresses import why_forbidden

FORBIDDEN = [
    "169.254.169.254", "169.254.0.1", "169.254.170.2",
    "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254",
    "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254", "fd20:ce::254",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "::ffff:100.100.100.200",
]  # fmt: skip
ALLOWED = [
    "127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "0.0.0.0", "100.64.0.1", "8.8.8.8",
    "fd00::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "169.253.255.255", "169.255.0.0",
    "no address at all",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_where_no_actor_lives_is_refused(address: str) -> None:
    why = why_forbidden(address)
    assert why is not None
    assert address in why


@pytest.mark.parametrize("address", ALLOWED)
def test_private_and_public_addresses_are_allowed(address: str) -> None:
    assert why_forbidden(address) is None
