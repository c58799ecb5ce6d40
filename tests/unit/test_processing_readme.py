"""What the READMEs say of processing is what the code does."""

import re
import tomllib
from pathlib import Path

from gateway.config.device_models import SensorSettings
from gateway.config.models import Settings
from gateway.processing.steps import ON_TIME, STEPS, TELL_S

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gateway" / "processing" / "README.md").read_text(encoding="utf-8")
PROSE = " ".join(TEXT.split())

NO_STEPS = {"key", "rename", "unit", "device_class"}
"""Keys that change no number."""


def test_the_table_has_all_steps_in_their_order_with_all_keys() -> None:
    table = TEXT[TEXT.index("| step |") :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in table]

    assert [row[0] for row in rows] == list(STEPS)
    keys = {key for row in rows for key in re.findall(r"`(\w+)", row[1])}
    assert keys | NO_STEPS == set(SensorSettings.model_fields)


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"A value up to {100 * (1 - ON_TIME):.0f} % early is in time" in PROSE
    assert TELL_S == 60, "at most one a minute"
    assert "at most one a minute of the samples' time" in PROSE


def test_the_example_of_the_front_page_is_a_configuration() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(\[\[device\]\].*?)```", readme, re.DOTALL)

    settings = Settings.model_validate(tomllib.loads(example))

    assert settings.device[0].sensor[0].published == (
        "temperature",
        "temperature_min",
        "temperature_max",
    )
