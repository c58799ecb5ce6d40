import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import LinkError
from gateway.mqtt.client_lock import ClientLock

ADDRESS = f"broker-{os.getpid()}:1883"
"""Tests of other workers must not meet this one's locks."""

HOLDER = """
import sys
from gateway.mqtt.client_lock import ClientLock
lock = ClientLock(sys.argv[1], "edge-gateway-attic")
lock.take()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_gateway_learns_who_has_the_client_id_until_that_one_is_killed() -> None:
    lock = ClientLock(ADDRESS, "edge-gateway-attic")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, ADDRESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(LinkError) as failure:
            lock.take()
        with pytest.raises(LinkError) as again:
            lock.take()
        holder.kill()

    words = str(failure.value)
    assert str(again.value) == words
    assert f"another gateway (process {holder.pid} of " in words
    assert f"{ADDRESS} as 'edge-gateway-attic'" in words
    assert "another client_id in [mqtt]" in words
    lock.take()
    lock.release()


def test_a_process_without_a_descriptor_to_spare_says_so_and_tries_again() -> None:
    lock = ClientLock(ADDRESS, "edge-gateway-attic")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(LinkError, match="no socket to be had: Too many open files"):
            lock.take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    lock.take()
    lock.release()


def test_what_is_held_may_be_taken_again_and_is_free_after_its_release() -> None:
    first, second = ClientLock(ADDRESS, "one"), ClientLock(ADDRESS.upper(), "one")

    with first:
        first.take()
        with pytest.raises(LinkError, match="this very process, a second time"):
            second.take()

    with second:
        pass


def test_gateways_of_other_names_or_brokers_do_not_mind_each_other() -> None:
    with (
        ClientLock(ADDRESS, "one"),
        ClientLock(ADDRESS, "two"),
        ClientLock(f"other-{ADDRESS}", "one"),
    ):
        pass
