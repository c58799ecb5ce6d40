"""Whatever happens to devices, gateway and broker: what the broker retains is what there is.

A real mosquitto, and gateways in processes of their own, which are killed at any moment. The model
knows the exact topics, and what their payloads must say.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.broker import Broker
from tests.support.nest import Hatched, Nest
from tests.support.retained_set import retained_set

SETTLE_TIMEOUT_S = 20.0
"""A gateway that lost its broker tries again after up to some seconds."""

KEYS = ["board_1", "board_2", "attic"]
NAMES = ["Attic", "attic 2", "Cellar", "board_2", ""]
LEVELS = {"Attic": "attic", "attic 2": "attic_2", "Cellar": "cellar", "board_2": "board_2"}
"""In topics; of other names it is the lower case."""
BASES = ["edge/one", "edge/two", "house"]
PREFIXES = ["homeassistant", "ha", ""]
"""Of discovery; the last stands for none."""

keys = st.sampled_from(KEYS)
sensors = st.sets(st.sampled_from(["temperature", "humidity"])).map(sorted)
actuators = st.dictionaries(st.sampled_from(["relay", "fan"]), st.booleans())
moments_s = st.sampled_from([0.0, 0.001, 0.003, 0.01])

deeds = st.tuples(
    st.sampled_from(["seen", "left", "rename", "remove"]), keys, st.sampled_from(NAMES)
)


def level_of(name: str, key: str) -> str:
    """Return what a name is in topics."""
    return LEVELS.get(name, name.lower()) or key


def is_clear(declared: Mapping[str, tuple[str, bool]]) -> bool:
    """Tell whether a configuration passes: no two devices of it have the same topics."""
    levels = {key: level_of(name, key) for key, (name, _) in declared.items()}
    are_unique = len({*levels.values()}) == len(levels)
    return are_unique and all(each == key or each not in levels for key, each in levels.items())


declarations = st.dictionaries(
    keys, st.tuples(st.sampled_from(["", "Attic", "Cellar", "board_2"]), st.booleans()), max_size=2
).filter(is_clear)


@dataclass
class Board:
    """A device as the model knows it."""

    key: str
    level: str
    own_name: str
    sensors: list[str]
    actuators: dict[str, bool]
    own_level: str = ""
    """Empty until it was asked for."""
    is_online: bool | None = True
    """None if this run of the gateway has not heard it."""
    newest: tuple[int, dict[str, float]] | None = None
    """Number and values of the newest sample of this run of the gateway."""


@dataclass
class World:
    """Where the machines find what outlasts an example."""

    nest: Nest
    mosquitto: Path
    folder: Path
    examples: int = 0
    checks: int = 0
    kills: int = 0


@dataclass(frozen=True)
class Announcement:
    """What discovery says of a device."""

    name: str
    base: str
    top: str

    def problem(self, payload: bytes) -> str:
        """Return what is wrong with a payload; empty if nothing is."""
        document = json.loads(payload)
        if document["device"]["name"] != self.name:
            return f"called {document['device']['name']} instead of {self.name}"
        ours = tuple(f"{base}/" for base in BASES)
        for topic in (each for each in texts_of(document) if each.startswith(ours)):
            if not topic.startswith(f"{self.top}/") and topic != f"{self.base}/status":
                return f"knows {topic}"
        return ""


def texts_of(document: object) -> Iterator[str]:
    """Return all texts in a JSON document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for each in document.values() if isinstance(document, dict) else document:
            yield from texts_of(each)


@dataclass
class Expected:
    """What the broker is to retain."""

    required: dict[str, Any] = field(default_factory=dict)
    """By topic: the payload; or a part of the JSON object it is; or None for anything."""
    optional: set[str] = field(default_factory=set)


class Ghosts(RuleBasedStateMachine):
    """One gateway, one broker and three boards."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.examples += 1
        self.folder = self.world.folder / str(self.world.examples)
        self.folder.mkdir()
        self.stack = ExitStack()
        self.boards: dict[str, Board] = {}
        self.declared: dict[str, tuple[str, bool]] = {}
        self.base = BASES[0]
        self.prefix = PREFIXES[0]
        self.carried: dict[str, bytes] = {}
        """What the broker had at the last look, and has still."""
        self.has_crashed = False
        """The broker has, of what the gateway does not know now, what it had at some time."""
        self.is_vague = False
        """Somebody was killed in the middle of something."""
        self.seq = 0
        self.connects = 1

    @initialize()
    def begin(self) -> None:
        self.broker = Broker(self.world.mosquitto, self.folder, persistence=True)
        self.broker.start()
        self.stack.callback(self.broker.stop)
        self.hatch()
        for key in KEYS:
            self.a_board_says_what_it_is(key, ["temperature"], {"relay": True})
            self.a_board_gives_a_reading(key)

    def hatch(self) -> None:
        host, port = self.broker.host, self.broker.port
        self.connects = 1
        self.gateway: Hatched = self.world.nest.hatch(
            {
                "gateway": {"name": "test"},
                "mqtt": {"host": host, "port": port, "base_topic": self.base},
                "serial": {"enabled": False},
                "ble": {"enabled": False},
                "outbox": {"path": str(self.folder / "outbox.db")},
                "homeassistant": {"enabled": bool(self.prefix), "prefix": self.prefix or "x"},
                "device": [
                    {"id": key, "enabled": is_enabled, **({"name": name} if name else {})}
                    for key, (name, is_enabled) in self.declared.items()
                ],
            }
        )
        for board in self.boards.values():
            board.is_online, board.newest = None, None

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "gateway"):
                self.gateway.kill()

    # ---- what may happen ----

    @rule(key=keys, sensors=sensors, actuators=actuators)
    def a_board_says_what_it_is(
        self, key: str, sensors: list[str], actuators: dict[str, bool]
    ) -> None:
        self.gateway.ask("seen", key=key, sensors=sensors, actuators=actuators)
        self.note_seen(key, sensors, actuators)

    @rule(key=keys)
    def a_board_gives_a_reading(self, key: str) -> None:
        board = self.boards.get(key)
        if board is None or board.is_online is None:
            return
        self.seq += 1
        values = {sensor: float(self.seq) for sensor in board.sensors} or {"other": 1.0}
        self.gateway.ask("sample", key=key, boot=1, seq=self.seq, values=values)
        if self.is_enabled(key):
            board.newest = self.seq, values
            board.is_online = True

    @rule(key=keys)
    def a_board_leaves(self, key: str) -> None:
        board = self.boards.get(key)
        if board is not None and board.is_online is not None:  # nobody leaves who never came
            self.gateway.ask("left", key=key)
            board.is_online = False

    @rule(key=keys, name=st.sampled_from(NAMES))
    def somebody_renames(self, key: str, name: str) -> None:
        if key not in self.boards:
            return
        why_not = self.gateway.ask("rename", key=key, name=name)
        declared_name, _ = self.declared.get(key, ("", True))
        level = level_of(name, key)
        taken = {each for b in self.boards.values() if b.key != key for each in (b.key, b.level)}
        for other, (given, _) in self.declared.items():
            if other != key and given:  # its place is kept, whether it is there or not
                taken |= {other, level_of(given, other)}
        is_taken = level in taken
        if name:
            assert bool(why_not) == (bool(declared_name) or is_taken), why_not
        if not why_not:
            self.take_up_names(is_renamed=True)

    @rule(key=keys)
    def somebody_removes(self, key: str) -> None:
        # One that is there would be a new device at its next word: that is told elsewhere.
        board = self.boards.get(key)
        if board is not None and board.is_online:
            self.gateway.ask("left", key=key)
        self.gateway.ask("remove", key=key)
        if self.boards.pop(key, None) is not None:
            self.take_up_names()
            self.forget(board)

    @rule(declared=declarations)
    def somebody_reloads_the_configuration(self, declared: dict[str, tuple[str, bool]]) -> None:
        self.declare(declared)
        self.gateway.ask("configure", devices=declared)
        self.take_up_names()

    @rule(
        base=st.sampled_from(BASES),
        prefix=st.sampled_from(PREFIXES),
        declared=declarations,
        is_killed=st.booleans(),
    )
    def somebody_restarts_the_gateway_with_another_configuration(
        self, base: str, prefix: str, declared: dict[str, tuple[str, bool]], is_killed: bool
    ) -> None:
        if is_killed:
            self.kill()
        else:
            self.gateway.stop()
        self.declare(declared)
        self.base, self.prefix = base, prefix
        self.hatch()
        self.take_up_names()

    @rule(
        key=keys,
        deed=st.sampled_from(["seen", "sample", "rename", "remove"]),
        name=st.sampled_from(NAMES[:4]),
        after_s=moments_s,
        base=st.sampled_from(BASES[:2]),
    )
    def the_gateway_is_killed_in_the_middle(
        self, key: str, deed: str, name: str, after_s: float, base: str
    ) -> None:
        board = self.boards.get(key)
        possible: dict[str, dict[str, Any]] = {
            "seen": {"sensors": ["pressure"], "actuators": {"lamp": True}},
            "sample": {"boot": 1, "seq": self.seq + 1, "values": {"temperature": 1.0}},
            "rename": {"name": name},
            "remove": {},
        }
        if board is None and deed != "seen":
            return
        self.seq += 1
        self.gateway.begin(deed, key=key, **possible[deed])
        time.sleep(after_s)
        self.kill()
        self.base = base
        self.hatch()
        described = Board(key, key, "", ["pressure"], {"lamp": True})
        self.take_up_what_survived([self.snapshot(), {key: described}])

    @rule()
    def the_broker_saves_what_it_has(self) -> None:
        os.kill(self.broker.pid, signal.SIGUSR1)

    @rule(
        how=st.sampled_from(["stops", "forgets", "crashes"]),
        is_killed=st.booleans(),
        meanwhile=st.lists(deeds, max_size=2),
    )
    def the_broker_is_restarted(
        self, how: str, is_killed: bool, meanwhile: list[tuple[str, str, str]]
    ) -> None:
        self.connects = self.gateway.ask("connects") + 1
        if how == "crashes":  # it has what it had when it saved it last
            self.broker.kill()
            self.has_crashed = True
        else:
            self.broker.stop()
        possible = [self.snapshot()]
        for deed, key, name in meanwhile:
            match deed:
                case "seen":
                    self.a_board_says_what_it_is(key, ["temperature"], {"fan": True})
                case "left":
                    self.a_board_leaves(key)
                case "rename":
                    self.somebody_renames(key, name)
                case "remove":
                    self.somebody_removes(key)
            possible.append(self.snapshot())
        if is_killed:
            self.kill()
        if how == "forgets":
            (self.folder / "mosquitto.db").unlink(missing_ok=True)
            self.carried.clear()
        self.broker.start()
        if is_killed:
            self.hatch()
            self.take_up_what_survived(possible)

    # ---- the model ----

    def kill(self) -> None:
        """Kill the gateway; what nobody waited for may have been done or not."""
        self.gateway.kill()
        self.world.kills += 1

    def snapshot(self) -> dict[str, Board]:
        return {key: replace(board) for key, board in self.boards.items()}

    def take_up_what_survived(self, possible: Sequence[Mapping[str, Board]]) -> None:
        """Learn what of the last deeds is on the disk: one of the boards there may have been."""
        self.is_vague = True
        boards = {}
        for key, entry in self.gateway.ask("known").items():
            board = boards[key] = next(
                each[key]
                for each in possible
                if key in each
                and sorted(each[key].sensors) == sorted(entry["sensors"])
                and each[key].actuators.keys() == entry["actuators"].keys()
            )
            board.is_online, board.newest = None, None
        self.boards = boards
        self.take_up_names()

    def note_seen(self, key: str, sensors: list[str], actuators: dict[str, bool]) -> None:
        board = self.boards.get(key)
        if board is None:
            board = self.boards[key] = Board(key, key, "", sensors, actuators)
            self.take_up_names()
        board.sensors, board.actuators, board.is_online = sensors, actuators, True

    def take_up_names(self, *, is_renamed: bool = False) -> None:
        """Ask the gateway who is called how, and compare with what must be.

        A number in a name that is taken is the gateway's choice, but it stays.
        """
        known = self.gateway.ask("known")
        assert set(known) == set(self.boards)
        assert len({entry["level"] for entry in known.values()}) == len(known)
        given = {level_of(name, key): key for key, (name, _) in self.declared.items() if name}
        for key, entry in known.items():
            board = self.boards[key]
            level, own_level = entry["level"], entry["own_level"]
            if level in given:
                assert given[level] == key
            else:
                assert key not in given.values()
                others = {each["level"] for other, each in known.items() if other != key}
                assert level == own_level or own_level in given or own_level in others
            if board.own_level and not (is_renamed or self.is_vague):
                assert (own_level, entry["own_name"]) == (board.own_level, board.own_name)
            else:
                wanted = level_of(entry["own_name"], key)
                assert own_level == wanted or own_level.startswith(f"{wanted}_")
            if board.level != level:
                self.forget(board)
            board.level, board.own_level, board.own_name = level, own_level, entry["own_name"]

    def declare(self, declared: dict[str, tuple[str, bool]]) -> None:
        for key, board in self.boards.items():
            if self.is_enabled(key) and not declared.get(key, ("", True))[1]:
                self.forget(board)
                board.newest = None
        self.declared = declared

    def is_enabled(self, key: str) -> bool:
        return self.declared.get(key, ("", True))[1]

    def forget(self, board: Board | None) -> None:
        """Note that nothing is left under the level of a board."""
        if board is not None:
            prefix = f"{self.base}/{board.level}/"
            for topic in [each for each in self.carried if each.startswith(prefix)]:
                del self.carried[topic]

    def expected(self) -> Expected:
        expected = Expected(
            {f"{self.base}/status": {"state": "online"}, f"{self.base}/health": None}
        )
        if self.prefix:
            expected.required[f"{self.prefix}/device/edge_test/config"] = Announcement(
                "Edge gateway test", self.base, self.base
            )
        for board in self.boards.values():
            if self.is_enabled(board.key):
                self.expect_board(board, f"{self.base}/{board.level}", expected)
        return expected

    def expect_board(self, board: Board, top: str, expected: Expected) -> None:
        name = self.declared.get(board.key, ("", True))[0] or board.own_name
        name = name or f"Board {board.key}"
        if self.prefix:
            expected.required[f"{self.prefix}/device/edge_test_{board.key}/config"] = Announcement(
                name, self.base, top
            )
        expected.optional.add(f"{top}/diagnostics")  # looked after every few seconds
        expected.required[f"{top}/info"] = {
            "device": board.key,
            "name": name,
            "sensors": [{"key": key} for key in board.sensors],
        }
        if board.is_online is None:
            self.expect_as_before(f"{top}/availability", expected)
        else:
            expected.required[f"{top}/availability"] = b"online" if board.is_online else b"offline"
        for actuator, state in board.actuators.items():
            if board.is_online is None:
                self.expect_as_before(f"{top}/{actuator}/state", expected)
            else:
                expected.required[f"{top}/{actuator}/state"] = json.dumps(state).encode()
        if board.newest is None:
            self.expect_as_before(f"{top}/state", expected)
        else:
            seq, values = board.newest
            expected.required[f"{top}/state"] = {"id": f"{board.key}/1/{seq}", **values}

    def expect_as_before(self, topic: str, expected: Expected) -> None:
        if self.is_vague or self.has_crashed:
            expected.optional.add(topic)
        elif topic in self.carried:
            expected.required[topic] = self.carried[topic]

    # ---- the look at the broker ----

    @precondition(lambda self: hasattr(self, "gateway"))
    @invariant()
    def the_broker_retains_what_there_is(self) -> None:
        expected = self.expected()
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        differences = ["not settled"]
        pause_s = 0.0
        while differences:
            assert time.monotonic() < deadline, differences
            time.sleep(pause_s := min(pause_s + 0.004, 0.1))
            if self.gateway.ask("is_settled", connects=self.connects):
                found = retained_set(self.broker.host, self.broker.port)
                differences = compare(found, expected)
                self.carried = found
        self.is_vague = self.has_crashed = False
        self.world.checks += 1


def compare(found: Mapping[str, bytes], expected: Expected) -> list[str]:
    """Return in words what is not as it should be."""
    ghosts = found.keys() - expected.required.keys() - expected.optional
    differences = [f"ghost: {topic} {found[topic]!r}" for topic in sorted(ghosts)]
    for topic, wanted in expected.required.items():
        if topic not in found:
            differences.append(f"missing: {topic}")
        elif isinstance(wanted, Announcement):
            if problem := wanted.problem(found[topic]):
                differences.append(f"wrong: {topic} {problem}")
        elif isinstance(wanted, dict):
            document = json.loads(found[topic])
            if {key: document.get(key) for key in wanted} != wanted:
                differences.append(f"wrong: {topic} {document} instead of {wanted}")
        elif wanted is not None and found[topic] != wanted:
            differences.append(f"wrong: {topic} {found[topic]!r} instead of {wanted!r}")
    return differences


@pytest.fixture
def world(mosquitto_bin: Path, tmp_path: Path) -> Iterator[World]:
    with Nest.ready(tmp_path) as nest:
        yield World(nest, mosquitto_bin, tmp_path)


def machine_of(world: World) -> type[Ghosts]:
    class Machine(Ghosts):
        pass

    Machine.world = world
    return Machine


def test_whatever_can_happen_happens_once(world: World) -> None:
    machine = machine_of(world)()
    look = machine.the_broker_retains_what_there_is
    try:
        machine.begin()
        look()
        machine.somebody_renames("board_1", "Cellar")
        look()
        machine.the_broker_is_restarted("forgets", is_killed=False, meanwhile=[])
        look()
        machine.a_board_says_what_it_is("board_2", ["humidity"], {"fan": False})
        machine.a_board_leaves("attic")
        look()
        machine.somebody_reloads_the_configuration(
            {"attic": ("Roof", True), "board_2": ("", False)}
        )
        look()
        machine.somebody_removes("board_1")
        look()
        machine.somebody_restarts_the_gateway_with_another_configuration(
            "edge/two", "ha", {"board_2": ("", True)}, is_killed=True
        )
        look()
        machine.the_gateway_is_killed_in_the_middle("attic", "rename", "Cellar", 0.003, "edge/two")
        look()
        machine.a_board_says_what_it_is("attic", ["temperature"], {})
        machine.a_board_gives_a_reading("attic")
        look()
        machine.the_broker_is_restarted(
            "stops", is_killed=True, meanwhile=[("remove", "attic", "")]
        )
        look()
        machine.a_board_says_what_it_is("board_1", ["temperature"], {"relay": True})
        machine.a_board_gives_a_reading("board_1")
        look()
        machine.the_broker_is_restarted("stops", is_killed=False, meanwhile=[])
        machine.a_board_gives_a_reading("board_1")
        machine.somebody_removes("board_2")
        look()
        machine.the_broker_is_restarted("crashes", is_killed=False, meanwhile=[])
        look()
        machine.somebody_restarts_the_gateway_with_another_configuration(
            "edge/one", "", {}, is_killed=False
        )
        look()
    finally:
        machine.teardown()


@pytest.mark.timeout(3600)
def test_the_broker_retains_what_there_is_whatever_happens(world: World, *, soak: bool) -> None:
    run_state_machine_as_test(
        machine_of(world),
        settings=settings(
            max_examples=150 if soak else 6,
            stateful_step_count=40 if soak else 12,
            phases=(Phase.generate,),  # a kill hits another moment when it is repeated
        ),
    )

    assert world.kills > 0
    assert world.checks > world.examples
