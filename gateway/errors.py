"""Exceptions the gateway raises on purpose.

GatewayError
  ConfigError    the settings cannot be used; the process exits with 2
  LinkError      a port, a radio or the broker failed and may be opened again
  StoreError     the outbox cannot be read or written
"""


class GatewayError(Exception):
    """Base class of every error below."""


class ConfigError(GatewayError):
    """The settings cannot be used."""


class LinkError(GatewayError):
    """An outside connection failed and may be opened again."""


class StoreError(GatewayError):
    """The outbox cannot be read or written."""
