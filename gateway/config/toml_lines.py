"""Where keys stand in a TOML text that is known to parse; tomllib does not tell."""

import re

KeyPath = tuple[str | int, ...]
"""Keys from the root; an int is the index in an array of tables."""

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_ONE_KEY = re.compile(_KEY)
_TOKEN = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?\"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|\#[^\n]*|[\[\]{}]""",
    re.DOTALL,
)
"""What a value's end can only be found by: strings, comments and brackets."""
_MARK = re.compile(r"""["'\#\[\]{}]""")
"""How each of them starts; looked for first, so that a long file takes no more than its length."""


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every header and key; those in inline tables are left out."""
    found: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position, line = 0, 1
    while position < len(text):
        end = _end_of_line(text, position)
        if header := _HEADER.match(text, position, end):
            table = _table(_keys(header[2]), arrays, is_array=header[1] == "[[")
            found.setdefault(table, line)
        elif assignment := _ASSIGNMENT.match(text, position, end):
            end = _end_of_value(text, assignment.end())
            keys = _keys(assignment[1])
            for length in range(1, len(keys) + 1):
                found.setdefault((*table, *keys[:length]), line)
        line += text.count("\n", position, end) + 1
        position = end + 1
    return found


def nearest_line(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of what it lies in; None when it is not in the text.

    An array of tables begins with its first header.
    """
    above = (path[:length] for length in range(len(path), 0, -1))
    places = (place for part in above for place in (part, (*part, 0)))
    return next((lines[place] for place in places if place in lines), None)


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _end_of_value(text: str, start: int) -> int:
    """Return the end of the line on which the value that starts at `start` ends."""
    depth = 0
    while True:
        end = _end_of_line(text, start)
        limit = len(text) if depth else end
        if not _MARK.search(text, start, limit) or not (token := _TOKEN.search(text, start)):
            return end
        depth += (token[0] in "[{") - (token[0] in "]}")
        start = token.end()


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(
        key[1:-1] if key[0] in "\"'" else key  # escapes in quoted keys stay: nobody uses them
        for key in _ONE_KEY.findall(dotted)
    )


def _table(keys: tuple[str, ...], arrays: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """Return the path of a header, with the index of the newest element of each array on it."""
    path: KeyPath = ()
    for depth, key in enumerate(keys, start=1):
        path = (*path, key)
        if is_array and depth == len(keys):
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path
