"""Which libraries a package needs, read from what `apt-cache depends --recurse` prints."""

import re

_EDGE = re.compile(r"\s+(?P<alternative>\|?)(?:Pre)?Depends: (?P<name>\S+)")


def parse_depends(text: str) -> dict[str, list[str]]:
    """Return each package's dependencies; of alternatives (`|Depends`) the first one."""
    graph: dict[str, list[str]] = {}
    package = ""
    satisfied = False
    for line in text.splitlines():
        if line and not line[0].isspace():
            package = line.strip()
            graph.setdefault(package, [])
            satisfied = False
            continue
        edge = _EDGE.fullmatch(line.rstrip())
        if edge is None:
            continue
        if not satisfied and not edge["name"].startswith("<"):  # <...> is a virtual package
            graph[package].append(edge["name"])
            satisfied = True
        if not edge["alternative"]:  # the last of its group
            satisfied = False
    return graph


def with_libraries(package: str, graph: dict[str, list[str]]) -> list[str]:
    """Return the package, then every library it needs at any depth, each once.

    Only packages named lib... are followed: what else a service depends on (users, start scripts)
    serves its installation, and nothing is installed here.
    """
    found = [package]
    for needer in found:
        found += [
            name
            for name in dict.fromkeys(graph.get(needer, []))
            if name.startswith("lib") and name not in found
        ]
    return found
