"""What the gateway does when it is asked to: each verb, listed."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Final

from gateway.admin.backup import BACKUP_S, Backups
from gateway.admin.board_requests import BOARD_S, BoardRequests
from gateway.admin.desk import Verb
from gateway.admin.device_requests import DeviceRequests
from gateway.admin.diagnostics import Diagnostics
from gateway.admin.replace_requests import ReplaceRequests
from gateway.admin.update_requests import COMPILE_S, UpdateRequests
from gateway.checkup import problems_of
from gateway.reload import Reloaded
from gateway.requests.admin import HealthCheckRequest, PermitJoinRequest, ReloadRequest
from gateway.status import Status

RELOAD_S: Final = 60.0
"""A radio that is begun anew ends its connections first."""

DISK_S: Final = 8.0
"""What is changed is answered once it is on the disk, or 5 s later if that fails."""

MARGIN_S: Final = 15.0
"""The journal of commands may take so long on a slow disk, and the registry after that."""

FILE_S: Final = 10.0
"""Diagnostics that become a file wait for the disk."""


def make_verbs(  # noqa: PLR0913 - the composition root names each
    *,
    status: Status,
    devices: DeviceRequests,
    replacements: ReplaceRequests,
    boards: BoardRequests,
    updates: UpdateRequests,
    permit_join: Callable[[float | None], float],
    reload: Callable[[], Awaitable[Reloaded]],
    backups: Backups,
    diagnostics: Diagnostics,
) -> Mapping[str, Verb]:
    """Return how each request is done, by its verb."""

    async def permit(request: PermitJoinRequest) -> object:
        return {"seconds": permit_join(request.seconds)}

    async def reload_all(_request: ReloadRequest) -> object:
        return asdict(await reload())

    async def check(_request: HealthCheckRequest) -> object:
        problems = problems_of(status)
        return {"healthy": not problems, "problems": problems}

    return {
        "devices": Verb(devices.list_all, changes_something=False),
        "device": Verb(devices.show, changes_something=False),
        "rename": Verb(devices.rename, longest_s=DISK_S),
        "remove": Verb(devices.remove, longest_s=DISK_S),
        "replace": Verb(replacements.replace, longest_s=BOARD_S + MARGIN_S),
        "permit_join": Verb(permit),
        "options": Verb(boards.options, longest_s=BOARD_S + MARGIN_S),
        "restart": Verb(boards.restart, longest_s=BOARD_S + MARGIN_S),
        "update_check": Verb(updates.check, changes_something=False, longest_s=COMPILE_S),
        "update": Verb(updates.update, longest_s=COMPILE_S),
        "update_abort": Verb(updates.abort),
        "update_status": Verb(updates.status, changes_something=False),
        "reload": Verb(reload_all, longest_s=RELOAD_S),
        "backup": Verb(backups.make, longest_s=BACKUP_S),
        "diagnostics": Verb(diagnostics.gather, changes_something=False, longest_s=FILE_S),
        "health_check": Verb(check, changes_something=False),
    }
