"""Where the settings of a running gateway come from: the file, or the last good one of it."""

import logging
from collections.abc import Mapping
from pathlib import Path

from gateway import files
from gateway.config.bind_keys import read_bind_keys
from gateway.config.last_good import cut_off, keep_last_good, last_good_path, read_last_good
from gateway.config.loader import load, read_file, read_password, with_credentials
from gateway.config.models import Settings
from gateway.errors import ConfigError

_log = logging.getLogger(__name__)


class Source:
    """Reads the configuration; its calls block, so in a running gateway they belong in a thread."""

    def __init__(
        self,
        path: Path | None,
        overrides: Mapping[str, Mapping[str, object]] | None = None,
        *,
        is_strict: bool = False,
    ) -> None:
        """`overrides` come from the command line; `is_strict` never uses the last good one."""
        self.path = path
        self.trouble = ""
        """Why the last good one is used, as the problems of the file; empty while it is not."""
        self._overrides = dict(overrides or {})
        self._is_strict = is_strict
        self._kept_at = None if path is None else last_good_path(path)
        self._content: bytes | None = None
        """What was read last, and can be used."""

    def override(self, section: str, values: Mapping[str, object]) -> None:
        """Have keys of a section replaced, also from now on."""
        self._overrides[section] = {**self._overrides.get(section, {}), **values}

    def begin(self) -> tuple[Settings, str | None]:
        """Return the settings to start with, and the broker's password.

        Raises:
            ConfigError: the file is broken, and no last good one may or can be used.
        """
        self.trouble = ""
        try:
            return self.reread()
        except ConfigError as exc:
            kept = None if self._is_strict or self._kept_at is None else self._kept()
            if kept is None:
                raise
            try:
                found = self._settings(kept)
            except ConfigError:  # what is wrong is not in the file
                raise exc from None
            self.trouble, self._content = str(exc), None
            return found

    def reread(self) -> tuple[Settings, str | None]:
        """Return the settings of the file as it is now, and the broker's password.

        Raises:
            ConfigError: the file is broken.
        """
        if self.path is None:
            return self._settings(None)
        content = read_file(self.path)
        if why := cut_off(content, self._kept()):
            raise ConfigError(
                f"{self.path}: {why}: a power cut leaves such a file. If it is meant, end it with "
                f"a comment; the one before is {self._kept_at}"
            )
        found = self._settings(content)
        self._content = content
        return found

    def keep(self) -> None:
        """Keep what was read last as the last good one: the gateway runs with it."""
        if self._content is None or self._kept_at is None:
            return
        try:
            keep_last_good(self._kept_at, self._content)
            if self.path is not None:
                files.sync_file(self.path)  # its editor may not have
        except OSError as exc:
            _log.warning(
                "%s: %s: this configuration is not kept for the day its file is broken",
                *(self._kept_at, exc.strerror or exc),
            )

    def last_good(self) -> str:
        """Return where the last good one is."""
        return str(self._kept_at)

    def _kept(self) -> bytes | None:
        return None if self._kept_at is None else read_last_good(self._kept_at)

    def _settings(self, content: bytes | None) -> tuple[Settings, str | None]:
        settings = with_credentials(load(self.path, self._overrides, content))
        read_bind_keys(settings.ble.bind_keys_file)
        return settings, read_password(settings.mqtt)
