"""Addresses that may hold a password or a token, as they may be shown and stored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote

HIDDEN = "***"
# Parameters that hold no secret; the value of any other is hidden, as nobody can list all that do.
HARMLESS = {
    *("application_name", "cache", "charset", "confirm", "dl", "download", "driver", "encoding", "export", "file"),
    *("format", "id", "mode", "path", "ref", "rev", "revision", "ssl", "sslmode", "timeout", "v", "version"),
}
SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"`<>]+", re.IGNORECASE)  # in a text
AT_THE_END = re.compile(r"[a-z][a-z0-9+.-]*://.+", re.IGNORECASE | re.DOTALL)  # of a word of a command
USER = re.compile(r"(?<=//)[^\s/@:'\"]*:[^\s/@'\"]+@")  # in a text, where the scheme is cut off
PARAMETER = re.compile(r"(?P<mark>[?&;#])(?P<name>[^=&;#]*)(?P<value>=[^&;#]*)?")
NAMED = re.compile(
    r"(?P<name>\b[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|signature|sig|sas)"
    r"(?:\s*=\s*|[\"']\s*:\s*))(?:\"[^\"]*\"|'[^']*'|[^\s&;,'\")]+)",
    re.IGNORECASE,
)
FEWEST = 4  # characters of a secret that is looked for by itself


def shown(address: str) -> str:
    """An address without its user and password, and without the values of parameters that may be secret."""
    scheme = SCHEME.match(address)
    if not scheme:
        return NAMED.sub(_named, address)[_user_end(address) :]
    place, parameters = _divided(address[scheme.end() :])
    return scheme[0] + place[_user_end(place) :] + PARAMETER.sub(_parameter, parameters)


def without_secrets(text: str, address: str = "") -> str:
    """Text as it may be shown, such as an error of a library; `address` is one that is known to stand in it."""
    if address:
        text = text.replace(address, shown(address))
    for secret in _secrets(address):
        text = text.replace(secret, HIDDEN)
    text = ADDRESS.sub(lambda found: shown(found[0]), text)
    return USER.sub("", NAMED.sub(_named, text))


def words_without_secrets(words: Sequence[str]) -> list[str]:
    """The words of a command as they may be shown and stored: an address in one lasts until its end."""
    return [NAMED.sub(_named, AT_THE_END.sub(lambda found: shown(found[0]), word)) for word in words]


def _divided(rest: str) -> tuple[str, str]:
    """What stands behind a scheme: user, server and path, and the parameters.

    A password may hold marks that should have been escaped. Then what looks like the port of the server is no number.
    """
    server = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = server.rpartition(":")[2] if ":" in server else ""
    broken = "@" in rest and "@" not in server and not port.isdigit() and port
    start = rest.rindex("@") if broken else 0
    marks = re.compile(r"[?#;]").search(rest, start)
    end = marks.start() if marks else len(rest)
    return rest[:end], rest[end:]


def _user_end(place: str) -> int:
    """Where a server begins behind its user; 0 where there is none, as a path alone may hold the mark."""
    server, _, path = place.partition("/")
    if "@" not in server and not (":" in server and "@" in path and not server.rpartition(":")[2].isdigit()):
        return 0
    return place.rindex("@") + 1


def _parameter(match: re.Match[str]) -> str:
    mark, name, value = match["mark"], match["name"], match["value"]
    if value is None:  # a word by itself, such as the heading of a page
        return f"{mark}{name}" if mark in ";#" or not name else f"{mark}{HIDDEN}"
    return f"{mark}{name}{value}" if name.lower() in HARMLESS else f"{mark}{name}={HIDDEN}"


def _named(match: re.Match[str]) -> str:
    return f"{match['name']}{HIDDEN}"


def _secrets(address: str) -> Iterator[str]:
    """The secret parts of an address, as they stand in it and as they are meant, the longest first."""
    scheme = SCHEME.match(address)
    place, parameters = _divided(address[scheme.end() :] if scheme else address)
    user, _, password = place[: max(0, _user_end(place) - 1)].partition(":")
    parts = [password or user]
    for parameter in PARAMETER.finditer(parameters):
        if parameter["value"] and parameter["name"].lower() not in HARMLESS:
            parts.append(parameter["value"][1:])
    # a password with a mark in it that should have been escaped is cut there by whoever reads the address
    parts += [piece for one in parts for piece in re.split(r"[/?#@:;=]", unquote(one))]
    forms = {form for one in parts for form in (one, unquote(one), quote(unquote(one), safe=""))}
    known = {form for form in forms if len(form) >= FEWEST}
    yield from sorted(known, key=len, reverse=True)
