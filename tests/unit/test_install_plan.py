"""What `install`, `upgrade` and `uninstall` would do, from what is there."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from gateway.errors import ConfigError
from gateway.install import layout
from gateway.install.actions import Action, Command, Environment, File, Link, Removal
from gateway.install.plan import Seen, ServiceFiles, Upgrade, installation, removal, upgrade
from gateway.install.source import Source

OLD, NEW = "0.1.0-11111111", "0.2.0-22222222"

SERVICE = ServiceFiles(
    unit="[Service]\nExecStart=/opt/edge-gateway/bin/edge-gateway run --config X\n",
    reload=b"[Service]\nExecReload=/bin/kill -HUP $MAINPID\n",
    rules=b"# rules\n",
    sysusers=b"u edge-gateway\n",
    tmpfiles=b"d /var/lib/edge-gateway\n",
    config=b"# defaults\n",
)

BARE = Seen(is_live=True, systemd=257)

AT_WORK = Seen(
    is_live=True,
    systemd=257,
    current=OLD,
    versions=frozenset({OLD}),
    contents={
        layout.UNIT_FILE: SERVICE.unit.encode(),
        layout.RULES_FILE: SERVICE.rules,
        layout.SYSUSERS_FILE: SERVICE.sysusers,
        layout.TMPFILES_FILE: SERVICE.tmpfiles,
        layout.CONFIG: b"[gateway]\n",
        layout.DEFAULT_CONFIG: SERVICE.config,
    },
    links={
        layout.CURRENT: f"versions/{OLD}",
        layout.PROGRAMS: "current/bin",
        layout.COMMAND: "/opt/edge-gateway/bin/edge-gateway",
        layout.WANTED: str(layout.UNIT_FILE),
    },
    is_enabled=True,
    is_active=True,
    has_account=True,
    has_state=True,
)


def source(key: str) -> Source:
    return Source(key.partition("-")[0], key, Path("/usr/bin/python3.13"), "3.13.5", ())


def commands(actions: Iterable[Action]) -> list[str]:
    return [" ".join(map(str, each.words)) for each in actions if isinstance(each, Command)]


def written(actions: Iterable[Action]) -> dict[PurePosixPath, bytes]:
    return {each.path: each.content for each in actions if isinstance(each, File)}


def removed(actions: Iterable[Action]) -> set[PurePosixPath]:
    return {each.path for each in actions if isinstance(each, Removal)}


def linked(actions: Iterable[Action]) -> dict[PurePosixPath, str]:
    return {each.path: each.target for each in actions if isinstance(each, Link)}


def touched(plan: Upgrade) -> set[PurePosixPath]:
    """What an upgrade writes, links or removes before it is proven."""
    actions = (*plan.prepare, *plan.trial)
    return {*written(actions), *linked(actions), *removed(actions)}


def test_a_bare_machine_gets_everything_and_the_service_is_started_last() -> None:
    actions = installation(BARE, source(NEW), SERVICE)

    assert written(actions) == {
        layout.UNIT_FILE: SERVICE.unit.encode(),
        layout.RULES_FILE: SERVICE.rules,
        layout.SYSUSERS_FILE: SERVICE.sysusers,
        layout.TMPFILES_FILE: SERVICE.tmpfiles,
        layout.CONFIG: SERVICE.config,
        layout.DEFAULT_CONFIG: SERVICE.config,
    }
    assert linked(actions) == {
        layout.CURRENT: f"versions/{NEW}",
        layout.PROGRAMS: "current/bin",
        layout.COMMAND: "/opt/edge-gateway/bin/edge-gateway",
    }
    assert commands(actions) == [
        "systemd-sysusers /usr/local/lib/sysusers.d/edge-gateway.conf",
        "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/edge-gateway.conf",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=tty",
        "systemctl daemon-reload",
        "systemctl enable edge-gateway.service",
        "systemctl start edge-gateway.service",
    ]


def test_an_environment_is_whole_before_anything_leads_to_it() -> None:
    actions = installation(BARE, source(NEW), SERVICE)

    kinds = [type(each) for each in actions]
    assert kinds.index(Environment) < kinds.index(Link)


def test_where_all_is_as_it_should_be_nothing_is_done() -> None:
    assert installation(AT_WORK, source(OLD), SERVICE) == ()


@pytest.mark.parametrize("path", [layout.UNIT_FILE, layout.RULES_FILE, layout.SYSUSERS_FILE])
def test_a_file_that_was_changed_is_put_right(path: PurePosixPath) -> None:
    changed = replace(AT_WORK, contents={**AT_WORK.contents, path: b"broken"})

    actions = installation(changed, source(OLD), SERVICE)

    assert set(written(actions)) == {path}
    assert commands(actions)[-1] == "systemctl restart edge-gateway.service"


def test_a_configuration_that_is_there_is_never_written() -> None:
    newer = replace(SERVICE, config=b"# other defaults\n")

    actions = installation(AT_WORK, source(OLD), newer)
    plan = upgrade(AT_WORK, source(NEW), newer)

    for each in (actions, plan.keep):
        assert written(each) == {layout.DEFAULT_CONFIG: b"# other defaults\n"}
    assert layout.CONFIG not in touched(plan)


def test_an_image_is_told_nothing_of_this_machine() -> None:
    image = Seen(is_live=False)

    actions = installation(image, source(NEW), SERVICE)

    assert commands(actions) == [
        "systemd-sysusers --root / /usr/local/lib/sysusers.d/edge-gateway.conf",
        "systemd-tmpfiles --create --root / /usr/local/lib/tmpfiles.d/edge-gateway.conf",
    ]
    assert linked(actions)[layout.WANTED] == str(layout.UNIT_FILE)


@pytest.mark.parametrize(("systemd", "is_given"), [(252, True), (253, False), (0, False)])
def test_an_older_systemd_is_told_how_to_reload(systemd: int, is_given: bool) -> None:
    actions = installation(replace(BARE, systemd=systemd), source(NEW), SERVICE)

    assert (written(actions).get(layout.RELOAD_FILE) == SERVICE.reload) is is_given


def test_a_newer_systemd_is_not_told_any_more() -> None:
    contents = {**AT_WORK.contents, layout.RELOAD_FILE: SERVICE.reload}

    actions = installation(replace(AT_WORK, contents=contents), source(OLD), SERVICE)

    assert removed(actions) == {layout.RELOAD_FILE}
    assert "systemctl daemon-reload" in commands(actions)


def test_the_debian_package_is_left_alone() -> None:
    packaged = replace(AT_WORK, is_packaged=True)

    for plan in (installation, upgrade):
        with pytest.raises(ConfigError, match="apt remove edge-gateway"):
            plan(packaged, source(NEW), SERVICE)
    with pytest.raises(ConfigError, match="apt remove edge-gateway"):
        removal(packaged, is_purged=True)


@pytest.mark.parametrize(
    ("path", "mended_by"),
    [
        (layout.ADMINISTRATORS_UNIT, "systemctl edit edge-gateway.service"),
        (layout.PROGRAMS, "sudo mv /opt/edge-gateway /opt/edge-gateway.old"),
        (layout.COMMAND, "sudo mv /usr/local/bin/edge-gateway /usr/local/bin/edge-gateway.old"),
    ],
)
def test_what_somebody_made_by_hand_is_named_before_anything_is_done(
    path: PurePosixPath, mended_by: str
) -> None:
    """A unit in /etc would run instead of ours, and would be what is tried in an upgrade."""
    seen = replace(AT_WORK, in_the_way=frozenset({path}))

    for plan in (installation, upgrade):
        with pytest.raises(ConfigError, match=mended_by):
            plan(seen, source(NEW), SERVICE)
    assert removal(seen, is_purged=False)


def test_what_an_upgrade_that_was_broken_off_left_is_taken_away() -> None:
    seen = replace(AT_WORK, contents={**AT_WORK.contents, layout.TRIAL_FILE: b"trial"})

    actions = installation(seen, source(OLD), SERVICE)

    assert removed(actions) == {layout.TRIAL_FILE}
    assert commands(actions) == [
        "systemctl daemon-reload",
        "systemctl restart edge-gateway.service",
    ]


def test_an_upgrade_touches_nothing_of_the_old_version_before_the_new_one_is_proven() -> None:
    newer = replace(SERVICE, unit=SERVICE.unit + "# newer\n", rules=b"# newer\n")

    plan = upgrade(AT_WORK, source(NEW), newer)

    assert touched(plan) == {layout.TRIAL_FILE}
    assert layout.TRIAL_FILE.is_relative_to("/run")


def test_the_trial_is_the_new_versions_unit_with_the_new_versions_programs() -> None:
    newer = replace(SERVICE, unit=SERVICE.unit + "# newer\n")

    plan = upgrade(AT_WORK, source(NEW), newer)

    assert (
        written(plan.trial)[layout.TRIAL_FILE]
        == (
            f"[Service]\nExecStart=/opt/edge-gateway/versions/{NEW}/bin/edge-gateway "
            "run --config X\n# newer\n"
        ).encode()
    )
    assert commands(plan.trial) == ["systemctl daemon-reload"]


def test_the_new_version_reads_the_configuration_before_anything_else() -> None:
    plan = upgrade(AT_WORK, source(NEW), SERVICE)

    program = f"/opt/edge-gateway/versions/{NEW}/bin/python3 -m gateway"
    assert commands(plan.prepare) == [f"{program} check-config /etc/edge-gateway/gateway.toml"]


def test_what_is_proven_is_kept_and_the_version_before_stays() -> None:
    older = "0.0.9-00000000"
    seen = replace(AT_WORK, versions=frozenset({older, OLD}))

    plan = upgrade(seen, source(NEW), SERVICE)

    assert linked(plan.keep) == {
        layout.PREVIOUS: f"versions/{OLD}",
        layout.CURRENT: f"versions/{NEW}",
    }
    assert removed(plan.keep) == {layout.TRIAL_FILE, layout.version_folder(older)}
    assert commands(plan.keep) == ["systemctl daemon-reload"]


def test_going_back_leaves_nothing_of_the_new_version() -> None:
    plan = upgrade(AT_WORK, source(NEW), SERVICE)

    assert removed(plan.back) == {layout.TRIAL_FILE, layout.version_folder(NEW)}
    assert commands(plan.back) == ["systemctl daemon-reload"]


def test_going_back_keeps_a_new_version_that_was_there_before() -> None:
    seen = replace(AT_WORK, versions=frozenset({OLD, NEW}))

    plan = upgrade(seen, source(NEW), SERVICE)

    assert removed(plan.back) == {layout.TRIAL_FILE}
    assert not any(isinstance(each, Environment) for each in plan.prepare)


def test_a_service_that_is_stopped_is_not_started_by_an_upgrade() -> None:
    plan = upgrade(replace(AT_WORK, is_active=False), source(NEW), SERVICE)

    assert plan.trial == ()
    assert linked(plan.keep)[layout.CURRENT] == f"versions/{NEW}"
    assert not any("start" in each for each in commands(plan.keep))


def test_a_service_that_fails_gets_the_new_version_at_once() -> None:
    plan = upgrade(replace(AT_WORK, is_active=False, is_failing=True), source(NEW), SERVICE)

    assert plan.trial == ()
    assert commands(plan.keep)[-1] == "systemctl restart --no-block edge-gateway.service"


def test_where_nothing_is_installed_nothing_is_upgraded() -> None:
    with pytest.raises(ConfigError, match="edge-gateway install"):
        upgrade(BARE, source(NEW), SERVICE)


def test_uninstalling_keeps_configuration_and_state() -> None:
    actions = removal(AT_WORK, is_purged=False)

    assert removed(actions) == {
        layout.UNIT_FILE,
        layout.RULES_FILE,
        layout.SYSUSERS_FILE,
        layout.TMPFILES_FILE,
        layout.COMMAND,
        layout.WANTED,
        layout.HOME,
    }
    assert commands(actions) == [
        "systemctl disable --now edge-gateway.service",
        "systemctl daemon-reload",
        "systemctl reset-failed edge-gateway.service",
        "udevadm control --reload",
    ]
    assert str(actions[-1]).startswith("kept: /etc/edge-gateway, /var/lib/edge-gateway")


OFF = replace(AT_WORK, is_active=False, is_enabled=False, is_failing=False)


@pytest.mark.parametrize(
    ("seen", "is_stopped"),
    [
        (OFF, False),
        (replace(OFF, is_active=True), True),
        (replace(OFF, is_enabled=True), True),
        (replace(OFF, is_failing=True), True),
    ],
)
def test_what_runs_or_will_is_stopped_before_it_is_removed(seen: Seen, is_stopped: bool) -> None:
    actions = removal(seen, is_purged=False)

    assert (commands(actions)[0] == "systemctl disable --now edge-gateway.service") == is_stopped


def test_purging_takes_all() -> None:
    actions = removal(AT_WORK, is_purged=True)

    assert {layout.CONFIGURATION, layout.STATE} <= removed(actions)
    assert commands(actions)[-1] == "userdel edge-gateway"


def test_a_second_purge_finds_nothing_to_do() -> None:
    assert removal(BARE, is_purged=True) == ()
