"""Show, write, sign or verify a bundle: the firmware, or settings, as an update takes it.

Without a file it is the firmware this gateway came with.
"""

import argparse
import sys
from pathlib import Path

from gateway.bundle.archive import read_bundle, to_archive
from gateway.bundle.bundle import Bundle
from gateway.bundle.manifest import FIRMWARE
from gateway.bundle.settings import read_settings, settings_bundle
from gateway.cli.commands import OK
from gateway.errors import ConfigError, GatewayError
from gateway.files import PRIVATE, write_atomically
from gateway.own_bundle import own_bundle

EPILOG = """\
examples:
  edge-gateway bundle                                  what this gateway would flash
  edge-gateway bundle --new-key release.key            a key to sign with; prints its public half
  edge-gateway bundle -o fw.egb --sign-key release.key
  edge-gateway bundle --config board.json -o settings.egb
  edge-gateway bundle --verify fw.egb --public-key 4f1c...

A bundle is a zip of the files and a manifest with their SHA-256; the same source makes the same
bytes. A board whose config.json names a release key takes only what that key signed.
Exit codes: 0 done, 1 the bundle is not right or cannot be written, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which bundle, and what to do with it."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--config", type=Path, metavar="FILE", help="settings of a board instead, JSON"
    )
    which.add_argument("--verify", type=Path, metavar="FILE", help="check this bundle; exits 1")
    which.add_argument("--new-key", type=Path, metavar="FILE", help="only make a key to sign with")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it here")
    parser.add_argument("--sign-key", type=Path, metavar="FILE", help="sign it, Ed25519, PEM")
    parser.add_argument(
        "--public-key",
        metavar="KEY",
        help="with --verify: it has to be signed with this one, 64 hex digits or a PEM file",
    )
    parser.add_argument("--files", action="store_true", help="list the files, too")


def execute(arguments: argparse.Namespace) -> int:
    """Do what was asked, and say what the bundle is."""
    if arguments.public_key and not arguments.verify:
        raise ConfigError("--public-key is what --verify checks a signature with")
    if arguments.verify and arguments.sign_key:
        raise ConfigError("--verify changes nothing; leave out --sign-key")
    if arguments.sign_key and not arguments.output:
        raise ConfigError("--sign-key: say with --output where the signed bundle goes")
    if arguments.new_key:
        return _make_key(arguments.new_key)
    bundle = _bundle(arguments)
    if arguments.sign_key:
        from gateway.bundle import signing  # noqa: PLC0415 cryptography is 15 MB, seldom needed

        bundle = signing.signed(bundle, signing.load_key(arguments.sign_key))
    if arguments.output:
        # Settings may hold a secret, such as `ble_key`; firmware holds none.
        mode = 0o644 if bundle.kind == FIRMWARE else PRIVATE
        _write(arguments.output, to_archive(bundle), mode)
    show(bundle, with_files=arguments.files)
    return OK


def show(bundle: Bundle, *, with_files: bool) -> None:
    """Say what the bundle is."""
    name = f"firmware {bundle.version}" if bundle.version else "settings"
    count = f"{len(bundle.files)} file{'s' * (len(bundle.files) != 1)}"
    print(f"{name}: {count}, {bundle.size_bytes} bytes")
    print(f"manifest: {bundle.manifest_hash.hex()}")
    print(f"signed: {'yes' if bundle.signature else 'no'}")
    if with_files:
        sys.stdout.write(bundle.manifest.decode().partition("\n")[2])


def _bundle(arguments: argparse.Namespace) -> Bundle:
    if arguments.config:
        return settings_bundle(read_settings(arguments.config), str(arguments.config))
    if not arguments.verify:
        return own_bundle()
    bundle = read_bundle(arguments.verify)
    if arguments.public_key:
        from gateway.bundle import signing  # noqa: PLC0415 as above

        key = signing.load_public_key(arguments.public_key)
        signing.check_signature(bundle, key, str(arguments.verify))
    return bundle


def _make_key(path: Path) -> int:
    from gateway.bundle import signing  # noqa: PLC0415 as above

    _write(path, signing.new_key_pem(), PRIVATE, is_new=True)
    public = signing.public_hex(signing.load_key(path).public_key())
    print(f"wrote {path}: keep it to yourself; its public half, for boards:\n{public}")
    return OK


def _write(path: Path, data: bytes, mode: int, *, is_new: bool = False) -> None:
    try:
        write_atomically(path, data, mode, is_new=is_new)
    except FileExistsError as exc:
        raise ConfigError(f"{path} is there already, and a key is never overwritten") from exc
    except OSError as exc:
        raise GatewayError(f"{path}: {exc.strerror}") from exc
