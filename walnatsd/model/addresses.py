"""Addresses that no webhook may have: link-local ones and the metadata services of clouds, in all their spellings.

Who can reach a cloud's metadata service gets the machine's credentials; no actor lives there.
"""

import ipaddress
from collections.abc import Iterator

_FORBIDDEN = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("169.254.0.0/16", "link-local, where clouds serve their metadata"),
        ("fe80::/10", "link-local"),
        ("fd00:ec2::254/128", "the metadata service of AWS"),
        ("fd20:ce::254/128", "the metadata service of Google Cloud"),
        ("100.100.100.200/32", "the metadata service of Alibaba Cloud"),
        ("168.63.129.16/32", "the wire server of Azure"),
        ("192.0.0.192/32", "the metadata service of Oracle Cloud"),
    )
)
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 section 2.5.5.1

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def why_forbidden(text: str) -> str | None:
    """Say why no webhook may have this IP address; None where one may.

    Args:
        text: An IP address, with or without a zone; whatever is none is not looked at.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    for each in _meanings(address):
        for network, what in _FORBIDDEN:
            if each in network:
                return f"{text} is {what}; webhooks there are refused"
    return None


def _meanings(address: Address) -> Iterator[Address]:
    """Give the address, and the IPv4 addresses that it carries packets to."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield address.teredo[1]
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
