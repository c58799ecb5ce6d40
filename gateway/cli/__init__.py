"""The command `edge-gateway`: one module for each of its commands."""

from gateway.cli.commands import main

__all__ = ["main"]
