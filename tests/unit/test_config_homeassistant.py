"""`[homeassistant]`: what is taken, what is refused."""

import pytest
from pydantic import ValidationError

from gateway.config.models import Settings


def test_it_is_on_unless_somebody_says_no() -> None:
    settings = Settings().homeassistant

    assert settings.enabled
    assert settings.prefix == "homeassistant"


@pytest.mark.parametrize("prefix", ["ha", "home/assistant", "Wohnung 3"])
def test_a_prefix_is_a_topic(prefix: str) -> None:
    settings = Settings.model_validate({"homeassistant": {"prefix": prefix}})

    assert settings.homeassistant.prefix == prefix


@pytest.mark.parametrize("prefix", ["", "ha/", "/ha", "a//b", "ha/+", "ha/#", "$SYS", "h\na", 5])
def test_what_is_no_topic_is_refused(prefix: object) -> None:
    with pytest.raises(ValidationError, match=r"homeassistant\.prefix"):
        Settings.model_validate({"homeassistant": {"prefix": prefix}})


@pytest.mark.parametrize("enabled", ["yes", 1, None])
def test_enabled_is_true_or_false(enabled: object) -> None:
    with pytest.raises(ValidationError, match=r"homeassistant\.enabled"):
        Settings.model_validate({"homeassistant": {"enabled": enabled}})
