"""Help that fits: its texts are written for 100 columns, and a terminal may have 80."""

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator

WIDTH = 100
"""What the texts are written for, and what a pipe or a file gets."""

_LEAST = 40
_HELP_POSITION = 28
_LEAST_REMARK = 24
"""A remark with less room than this stands below what it is about."""

_WITH_REMARK = re.compile(r"(?P<about> +\S.*?\S {2,})(?P<remark>\S.*)")

_HEADED = re.compile(r"[A-Za-z]+(?: codes)?: ")
"""A line with a head, such as `Exit codes:`, is not drawn into the one before."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, and as the texts are elsewhere."""

    def __init__(self, prog: str) -> None:
        width = WIDTH
        if sys.stdout.isatty():
            width = max(_LEAST, min(WIDTH, shutil.get_terminal_size().columns))
        super().__init__(prog, max_help_position=_HELP_POSITION, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(fitted(text, min(width, self._width)), width, indent)


def fitted(text: str, width: int) -> str:
    """Return a text with its paragraphs filled anew; what is indented stays a line of its own.

    An indented line that is too long goes on below its second column. One without a second is an
    example, perhaps to be copied: it stays as it is.
    """
    if width >= WIDTH:
        return text
    return "\n".join(_fitted_lines(text.splitlines(), width))


def _fitted_lines(lines: list[str], width: int) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        is_text = line != "" and not line.startswith(" ")
        if paragraph and (not is_text or _HEADED.match(line)):
            yield from _wrapped(" ".join(paragraph), width)
            paragraph = []
        if is_text:
            paragraph.append(line)
        else:
            yield from _fitted_line(line, width)
    yield from _wrapped(" ".join(paragraph), width)


def _fitted_line(line: str, width: int) -> Iterator[str]:
    parts = _WITH_REMARK.fullmatch(line)
    if len(line) <= width or parts is None:
        yield line
        return
    about, remark = parts["about"], parts["remark"]
    if width - len(about) < _LEAST_REMARK:
        yield about.rstrip()
        about = " " * (len(about) - len(about.lstrip()) + 4)
    yield from _wrapped(remark, width, about)


def _wrapped(text: str, width: int, before: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_on_hyphens=False,
        break_long_words=False,
    )
