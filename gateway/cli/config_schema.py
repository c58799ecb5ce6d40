"""Print the JSON Schema of the configuration file, for editors and other programs."""

import argparse
import json

from gateway.cli.commands import OK
from gateway.config.models import Settings

EPILOG = """\
examples:
  edge-gateway config-schema > gateway.schema.json
  Then start gateway.toml with the line
    #:schema ./gateway.schema.json
  and an editor with a TOML language server (taplo) completes and checks its keys.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing."""
    del parser


def execute(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    del arguments
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return OK
