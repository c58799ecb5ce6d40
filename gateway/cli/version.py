"""Print the versions of the gateway, of Python and of the libraries it stands on."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from gateway import __version__
from gateway.cli.commands import OK

EPILOG = ""

_LIBRARIES = ("aiomqtt", "paho-mqtt", "pydantic", "pyserial", "pyserial-asyncio", "rich", "amqtt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing."""
    del parser


def execute(arguments: argparse.Namespace) -> int:
    """Print one version a line."""
    del arguments
    print(f"edge-gateway {__version__}")
    print(f"Python {platform.python_version()} ({platform.python_implementation()})")
    print(f"{platform.system()} {platform.release()} ({platform.machine()})")
    for name in _LIBRARIES:
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} is not installed")
    return OK
