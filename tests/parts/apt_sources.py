"""Where the machine gets its packages, told again for one suite. Text in, text out.

A machine's own sources name its mirror, its proxy and its keyring. Only the suite is changed, so
that whatever reaches the mirror today also reaches the newer suite.
"""

import re
from collections.abc import Iterable, Mapping

SUITE_WITH_PARTS = "trixie"
"""Debian 13: the first release whose MicroPython (1.25) is recent enough."""

FIRST_DEBIAN_WITH_PARTS = 13

COMPONENTS = ("main", "universe")
"""Where the parts are: Debian's `main`, and `universe` on its derivatives."""

_ROLLING = ("testing", "unstable", "sid")
_DEBIAN_ARCHIVES = frozenset({"debian", "raspbian"})
_REPLACED_FIELDS = frozenset(
    {"types", "uris", "suites", "components", "architectures", "enabled", "targets", "languages"}
)
_LIST_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)


def parse_os_release(text: str) -> dict[str, str]:
    """Return the assignments of /etc/os-release, unquoted."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def suite_names(os_release: Mapping[str, str]) -> dict[str, str]:
    """Return which suites of the machine's sources to read, each with the suite to read instead.

    An older Debian reads Debian 13's. Everything else reads its own: a derivative has no such
    suite, and a mixture of releases is asked for only where it is known to work.
    """
    codename = os_release.get("VERSION_CODENAME", "")
    if os_release.get("ID") not in _DEBIAN_ARCHIVES:
        own = (codename, os_release.get("UBUNTU_CODENAME", ""))
        return {name: name for name in own if name}
    number = os_release.get("VERSION_ID", "")
    if number.isdecimal() and int(number) < FIRST_DEBIAN_WITH_PARTS:
        older = (codename, "stable", "oldstable", "oldoldstable")
        return {name: SUITE_WITH_PARTS for name in older if name}
    return {name: name for name in (codename, "stable", *_ROLLING) if name}


def rewrite_sources(text: str, suites: Mapping[str, str]) -> str:
    """Return the stanzas of a `.sources` file (deb822) that offer one of `suites`, renamed."""
    stanzas = (_rewrite_stanza(_fields(stanza), suites) for stanza in re.split(r"\n\s*\n", text))
    return "\n".join(stanza for stanza in stanzas if stanza)


def rewrite_list(text: str, suites: Mapping[str, str]) -> str:
    """Return the lines of a `.list` file that offer one of `suites`, renamed, each once."""
    lines: dict[str, None] = {}
    for line in text.splitlines():
        match = _LIST_LINE.fullmatch(line.partition("#")[0].strip())
        if match is None or match["uri"].startswith("cdrom:") or match["suite"] not in suites:
            continue
        components = _kept(match["components"].split(), COMPONENTS)
        if not components:
            continue
        options = [
            option
            for option in (match["options"] or "").split()
            if not option.startswith(("arch", "target", "lang"))
        ]
        bracket = " ".join([*options, "target=Packages"])
        lines[f"deb [{bracket}] {match['uri']} {suites[match['suite']]} {components}"] = None
    return "".join(f"{line}\n" for line in lines)


def _fields(stanza: str) -> dict[str, str]:
    """Return the fields by lower-case name; a value keeps its continuation lines."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t":
            fields[name] = f"{fields.get(name, '')}\n{line}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _rewrite_stanza(fields: Mapping[str, str], suites: Mapping[str, str]) -> str:
    enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "off", "0"}
    uris = [uri for uri in fields.get("uris", "").split() if not uri.startswith("cdrom:")]
    offered = [suites[suite] for suite in fields.get("suites", "").split() if suite in suites]
    components = _kept(fields.get("components", "").split(), COMPONENTS)
    if not (enabled and "deb" in fields.get("types", "").split()):
        return ""
    if not (uris and offered and components):
        return ""
    kept = {name: value for name, value in fields.items() if name not in _REPLACED_FIELDS}
    rewritten = {
        "types": "deb",
        "uris": " ".join(uris),
        "suites": " ".join(dict.fromkeys(offered)),
        "components": components,
        "targets": "Packages",
        **kept,
    }
    return "".join(f"{name}: {value}\n" for name, value in rewritten.items())


def _kept(words: Iterable[str], wanted: Iterable[str]) -> str:
    allowed = set(wanted)
    return " ".join(word for word in words if word in allowed)
