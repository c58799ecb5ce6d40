"""What the fields of several sections are made of."""

from typing import Annotated

from pydantic import ConfigDict, Field

SECTION = ConfigDict(extra="forbid", frozen=True, str_max_length=1024)
"""Every section: an unknown key is an error, and nobody changes a value later."""

Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=256)]
