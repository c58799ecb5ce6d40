"""Exceptions the gateway raises on purpose.

GatewayError
  ConfigError    the settings cannot be used; the process exits with 2
  LinkError      a port, a radio or the broker failed and may be opened again
    NotRunningError      no gateway runs on this machine that could be asked
  StoreError     the outbox's files cannot be read or written now
    StoreBusyError       another program holds them
    StoreDamagedError    what is in them cannot be right
  BundleError    a bundle, a manifest or a file of one is not what it has to be
  FlashError     a board cannot be flashed as it stands
  RequestError   a message asks for something that cannot be done as it stands
"""


class GatewayError(Exception):
    """Base class of every error below."""


class ConfigError(GatewayError):
    """The settings cannot be used."""


class LinkError(GatewayError):
    """An outside connection failed and may be opened again."""


class NotRunningError(LinkError):
    """No gateway runs on this machine that could be asked."""


class StoreError(GatewayError):
    """The outbox's files cannot be read or written now; trying again may help."""


class StoreBusyError(StoreError):
    """Another program holds the outbox's files; when it lets go, all is well."""


class StoreDamagedError(StoreError):
    """What is in the outbox's files cannot be right; trying again does not help, salvage does."""


class BundleError(GatewayError):
    """A bundle is not what it has to be; says where, what was expected and found, what helps."""


class FlashError(GatewayError):
    """A board cannot be flashed; says where, what was expected and found, and what helps."""


class RequestError(GatewayError):
    """A message asks for something that cannot be done as it stands; says what, and why."""
