"""What the fields of several sections are made of."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

SECTION = ConfigDict(extra="forbid", frozen=True, str_max_length=1024)
"""Every section: an unknown key is an error, and nobody changes a value later."""

Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=256)]


def _is_a_file_name(name: str) -> str:
    if "\0" in name:
        raise ValueError("no name of a file has a NUL in it")
    return name


FileName = Annotated[Text, AfterValidator(_is_a_file_name)]
"""A path, or a pattern of paths."""
