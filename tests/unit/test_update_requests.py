"""What is asked about updates, by several at once."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

from gateway.admin.update_requests import UpdateRequests
from gateway.devices.device import Device
from gateway.requests.update import UpdateRequest
from tests.support.updates import Site


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns after each few steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
async def test_settings_of_several_requests_are_checked_one_after_the_other() -> None:
    """By the firmware's own rules, which are imported for a moment: two at once lost them."""
    site, names = Site(), [f"board_{number}" for number in range(12)]
    for name in names:
        site.board(name)

    def find(name: str) -> Device:
        device = site.devices.get(name)
        assert device is not None
        return device

    requests = UpdateRequests(find, site.devices, site.updates)
    settings = {"bthome": True, "sensors": [{"kind": "heap"}]}
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for name in names:
            request = UpdateRequest(device=name, settings=settings)
            tasks.create_task(requests.update(request))

    begun = [device for rollout in site.updates.rollouts for device in rollout.targets]
    assert sorted(begun) == sorted(names)
    assert len({rollout.plan.short_hash for rollout in site.updates.rollouts}) == 1
    assert not [name for name in sys.modules if name.partition(".")[0] == "board"]
