"""Ask the gateway that runs on this machine, through its socket."""

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.config.models import CONTROL_NAME, Settings
from gateway.errors import LinkError, NotRunningError, RequestError
from gateway.links.unix_names import reachable
from gateway.requests.local import MAX_LINE_BYTES

SERVICE_SOCKET: Final = Path("/run/edge-gateway") / CONTROL_NAME
"""Where the service listens: RuntimeDirectory= of its unit."""

MAX_ANSWER_BYTES: Final = 8 << 20

ANSWER_S: Final = 30.0
"""A gateway answers within a second, unless it has to wait for a board."""


def ask(
    settings: Settings,
    verb: str,
    fields: Mapping[str, object] | None = None,
    timeout_s: float = ANSWER_S,
) -> Any:  # noqa: ANN401 - JSON
    """Have the gateway of these settings do something; return the `data` of its answer.

    Raises:
        NotRunningError: no gateway listens; says where, and what to do.
        RequestError: it was not done; in the gateway's words.
        LinkError: it may not be asked, or does not answer.
    """
    envelope: dict[str, object] = {"verb": verb, "fields": dict(fields or {})}
    if "name" in settings.gateway.model_fields_set:
        envelope["gateway"] = settings.gateway.name
    line = json.dumps(envelope).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise RequestError(f"expected at most {MAX_LINE_BYTES} bytes, got {len(line)}")
    answer = _exchange(paths(settings), line, timeout_s)
    if answer.get("status") != "ok":
        raise RequestError(str(answer.get("error", "the answer says nothing")))
    return answer.get("data")


def paths(settings: Settings) -> tuple[Path, ...]:
    """Return where the gateway may listen, likeliest first; a service's folders are not ours."""
    if settings.gateway.control_socket is not None:
        return (settings.control_path,)
    found = (settings.control_path, settings.control_path_beside_outbox, SERVICE_SOCKET)
    return tuple(dict.fromkeys(found))


def _exchange(places: Sequence[Path], line: bytes, timeout_s: float) -> Mapping[str, Any]:
    for path in places:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout_s)
            try:
                with reachable(path) as name:
                    link.connect(name)
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                continue
            except PermissionError as exc:
                raise LinkError(
                    f"{path}: the gateway that runs here is another user's: ask with sudo"
                ) from exc
            except OSError as exc:
                raise LinkError(f"{path}: {exc.strerror or exc}") from exc
            return _answer(link, path, line, timeout_s)
    raise NotRunningError(
        "no gateway runs here, or not with this configuration: nothing listens on "
        f"{' or '.join(map(str, places))}; start it (systemctl start edge-gateway), or name its "
        "configuration with --config"
    )


def _answer(link: socket.socket, path: Path, line: bytes, timeout_s: float) -> Mapping[str, Any]:
    try:
        link.sendall(line)
        with link.makefile("rb") as stream:
            said = stream.readline(MAX_ANSWER_BYTES)
        answer = json.loads(said)
    except TimeoutError as exc:
        raise LinkError(f"{path}: no answer within {timeout_s:g} s") from exc
    except OSError as exc:
        raise LinkError(f"{path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise LinkError(f"{path}: the gateway ended before it had answered") from exc
    if not isinstance(answer, dict):
        raise LinkError(f"{path}: that is no gateway")
    return answer
