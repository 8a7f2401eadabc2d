"""Texts of a certain form: names, hostnames, addresses, URLs. A check says what is allowed, and a remedy."""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from polycdn.model.address import is_address

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def _wrong(allowed: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("polycdn", "{allowed}", {"allowed": allowed, "remedy": remedy})


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise _wrong("1 to 63 letters, digits, - and _, the first a letter or digit", "choose another name")
    return text


def _hostname(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not name.isascii():
        raise _wrong("a hostname in ASCII", f"write it as {_punycode(name)}")
    labels = name.split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        raise _wrong(
            "a hostname: labels of letters, digits and -, joined by dots",
            "write only the name, no scheme, port or *",
        )
    return name


def _punycode(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "its punycode form (xn--...)"


def _host(text: str) -> str:
    return _address(text) if is_address(text) else _hostname(text)


def _address(text: str) -> str:
    if not is_address(text):
        raise _wrong("an IP address, without port", 'write it like "192.0.2.1" or "2001:db8::1"')
    return str(ip_address(text))


def _prefix(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        remedy = f'write it as "{ip_network(text, strict=False)}"'
    except ValueError:
        remedy = 'write it like "192.0.2.0/24" or "2001:db8::/32"'
    raise _wrong("an IP prefix without host bits", remedy)


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65_535
    if not colon or not is_port or not is_address(host.removeprefix("[").removesuffix("]")):
        raise _wrong("IP address and port", 'write it like "127.0.0.1:8080" or "[::]:443"')
    return text


def _url(text: str) -> str:
    match = re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[^/:@\[\]?#]+)(?::([0-9]{1,5}))?/?", text)
    if not match or not 0 < int(match.group(2) or 1) <= 65_535:
        raise _wrong(
            "http:// or https://, a host and perhaps a port; no path, no user",
            'write it like "https://origin.example.net" or "http://192.0.2.1:8080"',
        )
    _host(match.group(1).strip("[]"))
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
        raise _wrong("a path that starts with /, spaces and other characters percent-encoded", "add the /")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise _wrong("64 hexadecimal digits", "take them from `sha256sum FILE`")
    return text.lower()


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise _wrong("a country code of two letters (ISO 3166-1)", 'write it like "DE"')
    return text.upper()


Name = Annotated[str, AfterValidator(_name)]
Hostname = Annotated[str, AfterValidator(_hostname)]
Host = Annotated[str, AfterValidator(_host)]
Address = Annotated[str, AfterValidator(_address)]
Prefix = Annotated[str, AfterValidator(_prefix)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
Url = Annotated[str, AfterValidator(_url)]
UrlPath = Annotated[str, AfterValidator(_path)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Country = Annotated[str, AfterValidator(_country)]
