"""Hosts as people write them: names, IPv4 addresses, and IPv6 addresses with or without the brackets of URLs."""

from ipaddress import IPv6Address, ip_address


def bare(host: str) -> str:
    """Return the host without the brackets of an IPv6 address.

    >>> bare("[::1]"), bare("::1"), bare("localhost")
    ('::1', '::1', 'localhost')
    """
    return host.removeprefix("[").removesuffix("]")


def authority(host: str, port: int) -> str:
    """Return host and port as a URL has them.

    >>> authority("::1", 9464), authority("[::1]", 80), authority("localhost", 80)
    ('[::1]:9464', '[::1]:80', 'localhost:80')
    """
    name = bare(host)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the host; an address counts in any spelling.

    >>> is_loopback("127.0.0.2"), is_loopback("[0:0:0:0:0:0:0:1]"), is_loopback("::ffff:127.0.0.1")
    (True, True, True)
    >>> is_loopback("localhost"), is_loopback("localhost.example"), is_loopback("::"), is_loopback("")
    (True, False, False, False)
    """
    name = bare(host)
    if name.lower() == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
