"""A bundle as a file, `*.egb`: a plain zip of `manifest`, the files and, if signed, `signature`."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Final

from gateway.bundle.bundle import Bundle
from gateway.bundle.manifest import MAX_FILE_BYTES, MAX_FILES
from gateway.errors import BundleError

MANIFEST_NAME: Final = "manifest"
SIGNATURE_NAME: Final = "signature"

MAX_BYTES: Final = 8 << 20
"""A board's file system is smaller."""

_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    struct.error,
)
"""What zipfile raises at what is no zip, or a damaged one."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""A zip's first moment: the same bundle is the same file, whenever it was made."""


def to_archive(bundle: Bundle) -> bytes:
    """Return the bytes of a bundle's file: the same for the same bundle."""
    out = io.BytesIO()
    members = {MANIFEST_NAME: bundle.manifest, **bundle.files}
    if bundle.signature is not None:
        members[SIGNATURE_NAME] = bundle.signature
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # as written on Unix, wherever this runs
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return out.getvalue()


def from_archive(data: bytes, where: str) -> Bundle:
    """Return the bundle in the bytes of its file, checked; `where` names it in what is wrong.

    Raises:
        BundleError: it is no bundle, was changed, or no board can run it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, where)
    except _DAMAGE as exc:
        raise BundleError(
            f"{where}: expected a bundle, as `edge-gateway bundle` writes it: {exc}"
        ) from exc
    manifest = members.pop(MANIFEST_NAME, None)
    if manifest is None:
        raise BundleError(f"{where}: a zip without a manifest: not a bundle, or not all of one")
    signature = members.pop(SIGNATURE_NAME, None)
    return Bundle.checked(manifest, members, signature, where)


def read_bundle(path: Path) -> Bundle:
    """Return the bundle in a file, checked.

    Raises:
        BundleError: there is none, it was changed, or no board can run it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise BundleError(f"{path}: {exc.strerror}") from exc
    if len(data) > MAX_BYTES:
        raise BundleError(f"{path}: more than {MAX_BYTES} bytes: no bundle is as large")
    return from_archive(data, str(path))


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > MAX_FILES + 2:
        raise BundleError(f"{where}: holds {len(infos)} files, and a bundle at most {MAX_FILES}")
    members: dict[str, bytes] = {}
    for info in infos:
        # What is packed may be of any size; a bundle is not packed.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_FILE_BYTES:
            raise BundleError(f"{where}: {info.filename!r:.80}: packed or too large for a bundle")
        if info.filename in members:
            raise BundleError(f"{where}: {info.filename!r:.80} is in it twice")
        members[info.filename] = archive.read(info)
    return members
