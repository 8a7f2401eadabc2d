"""IP addresses as texts."""

from ipaddress import ip_address


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, without brackets and port."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
