"""Rollouts: whose turn it is, what becomes of each board, and what is told of it."""

import json
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.bundle.bundle import Bundle
from gateway.devices.device import entry_of
from gateway.errors import RequestError, StoreError
from gateway.protocol.update import UpdateOutcome
from gateway.protocol.update_values import UpdateKind
from gateway.store import rollouts
from gateway.store.registry import Registered
from gateway.store.state_database import StateDatabase
from gateway.updates.rollout import MAX_TRIES, PAUSE_CAP_S, PAUSE_S, TRIAL_S, Phase
from tests.support.updates import MODULE, Site, firmware

NEW = firmware("0.2.0")
BOARDS = [f"board_{number}" for number in range(1, 6)]


def site_of(*boards: str) -> Site:
    site = Site()
    for board in boards or BOARDS:
        site.board(board)
    return site


def test_an_update_is_sent_tried_and_confirmed() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    sent = site.road.sending["board_1"]
    assert (sent.kind, sent.manifest, sent.bytecode) == (UpdateKind.FIRMWARE, NEW.manifest, 6)
    assert sent.contents == (MODULE + b"0.2.0",)
    assert site.states() == {"board_1": "sending"}

    site.road.progress("board_1", 21, 50)
    site.work(1.0)
    assert (site.told("board_1")["state"], site.told("board_1")["update_percentage"]) == (
        "sending",
        42,
    )
    site.tries("board_1", NEW)
    site.work()
    assert site.states() == {"board_1": "trial"}
    assert site.told("board_1")["in_progress"] is True
    site.says("board_1", "confirmed", NEW)
    site.board("board_1", "2", slot="b", firmware="0.2.0", manifest_hash=NEW.short_hash)
    site.work()

    assert site.states() == {"board_1": "done"}
    assert site.told("board_1") == {
        "installed_version": "0.2.0",
        "in_progress": False,
        "update_percentage": None,
        "state": "done",
        "rollout": 1,
        "kind": "firmware",
        "hash": NEW.short_hash,
    }
    assert (site.rollout["state"], site.rollout["counts"]) == ("done", {"done": 1})
    assert site.disk.rows[1][1] is None, "what it brought is kept no longer"


def test_nothing_is_sent_before_the_disk_has_the_rollout() -> None:
    site = site_of("board_1")
    site.disk.is_slow = True
    site.updates.begin(NEW, ["board_1"])
    site.work()
    assert site.road.sending == {}

    site.disk.settle()
    site.work()

    assert [*site.road.sending] == ["board_1"]


def test_only_so_many_have_it_under_way_until_they_have_confirmed() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, parallel=2)
    site.work()
    assert [*site.road.sending] == BOARDS[:2]

    site.tries("board_1", NEW)
    site.work()
    assert [*site.road.sending] == ["board_2"]
    site.says("board_1", "confirmed", NEW)
    site.work()

    assert [*site.road.sending] == BOARDS[1:3]


def test_until_the_canaries_have_confirmed_nobody_else_is_begun() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, canary=2, parallel=4)
    site.work()
    assert [*site.road.sending] == BOARDS[:2]

    site.road.end("board_1", UpdateOutcome.REFUSED, "wrong mac")  # proves nothing
    site.work()
    assert [*site.road.sending] == BOARDS[1:3]
    for board in BOARDS[1:3]:
        site.tries(board, NEW)
        site.work()
        assert not set(BOARDS[3:]) & set(site.road.sending)
        site.says(board, "confirmed", NEW)
    site.work()

    assert [*site.road.sending] == BOARDS[3:]
    assert site.told("board_1")["reason"] == "wrong mac"


def test_a_board_that_rolls_back_halts_the_rollout_and_it_is_told_why() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, parallel=3)
    site.work()
    site.tries("board_1", NEW)
    site.tries("board_2", NEW)
    site.work()

    site.says("board_1", "rolled_back", NEW, "crashed twice: ImportError: no module named 'x'")
    site.work()

    assert site.states() == {
        "board_1": "rolled_back",
        "board_2": "trial",
        "board_3": "halted",
        "board_4": "halted",
        "board_5": "halted",
    }
    assert site.road.aborted == ["board_3"]
    why = "crashed twice: ImportError: no module named 'x'"
    assert site.told("board_1")["reason"] == why
    assert site.told("board_5")["reason"] == f"board_1 rolled back: {why}"
    assert (site.rollout["state"], site.rollout["reason"]) == (
        "halted",
        f"board_1 rolled back: {why}",
    )
    site.says("board_2", "confirmed", NEW)  # who is on trial decides by himself
    site.work()
    assert site.states()["board_2"] == "done"
    assert site.updates.rollouts[0].phase is Phase.HALTED


def test_a_board_that_is_away_is_waited_for() -> None:
    site = site_of("board_1")
    site.board("board_2")
    site.leaves("board_2")
    site.updates.begin(NEW, ["board_1", "board_2"])
    site.work()
    assert site.states() == {"board_1": "sending", "board_2": "waiting"}
    assert site.updates.has_mail("board_2")

    site.board("board_2")
    site.work()

    assert site.states() == {"board_1": "sending", "board_2": "sending"}


def test_what_is_interrupted_goes_on_when_the_board_is_back() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    for _ in range(MAX_TRIES + 2):  # a loose cable is no failure
        site.leaves("board_1")
        site.work()
        assert site.told("board_1")["reason"] == "unplugged"
        site.board("board_1")
        site.work()
        assert site.road.sending == {}
        site.work(PAUSE_S)
        assert [*site.road.sending] == ["board_1"]


def test_what_fails_again_and_again_is_given_up() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    for _ in range(MAX_TRIES):
        site.work(PAUSE_CAP_S)
        site.road.end("board_1", UpdateOutcome.FAILED, "the board does not answer")
    site.work(PAUSE_CAP_S)

    assert site.states() == {"board_1": "failed"}
    assert site.told("board_1")["reason"] == "the board does not answer (3 times)"
    assert site.rollout["state"] == "done"


def test_a_board_that_is_gone_at_the_last_moment_is_waited_for() -> None:
    site = site_of("board_1")
    site.road.absent.add("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    site.work(PAUSE_CAP_S)
    assert site.states() == {"board_1": "waiting"}

    site.road.absent.clear()
    site.board("board_1")
    site.work()
    assert site.states() == {"board_1": "sending"}


def test_a_rollout_can_be_aborted_and_boards_on_trial_decide_by_themselves() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, parallel=2)
    site.work()
    site.tries("board_1", NEW)

    assert site.updates.abort() == [1]
    site.work()

    assert [*site.states().values()] == ["trial", "aborted", "aborted", "aborted", "aborted"]
    assert site.road.aborted == ["board_2"]
    assert site.updates.abort(1) == [1], "it is not over yet"
    site.says("board_1", "confirmed", NEW)
    site.work()
    assert site.rollout["counts"] == {"done": 1, "aborted": 4}
    assert site.updates.abort() == []


def test_what_ends_after_it_was_aborted_changes_nothing() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    site.updates.left("port of board_1", "board_1")
    site.updates.abort()
    assert site.states() == {"board_1": "aborted"}

    site.road.end("board_1", UpdateOutcome.INTERRUPTED, "unplugged")
    site.work()

    assert site.states() == {"board_1": "aborted"}
    assert site.told("board_1")["reason"] == "aborted by request"


def test_one_board_can_be_taken_out() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, parallel=1)
    site.work()

    assert site.updates.abort(device="board_1") == [1]
    assert site.updates.abort(device="board_1") == []
    site.work()

    assert site.states() == dict(
        zip(BOARDS, ["aborted", "sending", "waiting", "waiting", "waiting"], strict=True)
    )


def test_a_board_has_one_update_at_a_time() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS[:2])

    with pytest.raises(RequestError, match=r"board_2: rollout 1 is under way there"):
        site.updates.begin(NEW, BOARDS[1:])

    assert len(site.updates.rollouts) == 1
    site.updates.begin(firmware("0.3.0"), BOARDS[2:])
    site.work()
    assert site.rollout["rollout"] == 2


def test_a_rollout_goes_on_after_a_restart_of_the_gateway() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS, parallel=2)
    site.work()
    site.tries("board_1", NEW)
    site.work()
    site.restart()
    assert site.rollout["counts"] == {"trial": 1, "waiting": 4}
    site.work()
    assert site.road.sending == {}, "nobody is there yet"

    site.board("board_1", "2", manifest_hash=NEW.short_hash)  # confirmed while we were away
    site.board("board_2")
    site.board("board_3")
    site.work()

    assert [*site.road.sending] == ["board_2", "board_3"]
    assert site.road.sending["board_2"].manifest == NEW.manifest
    assert site.states()["board_1"] == "done"
    number = site.updates.begin(NEW, ["board_9"]).number
    assert number == 2


def test_what_became_of_a_trial_is_learned_from_what_the_board_runs() -> None:
    site = site_of("board_1", "board_2")
    site.updates.begin(NEW, ["board_1", "board_2"])
    site.work()
    for board in ("board_1", "board_2"):
        site.tries(board, NEW)
    site.work()

    site.board("board_1", "3", manifest_hash=NEW.short_hash)
    site.board("board_2", "3", rollback="no gateway within 10 min")
    site.work()

    assert site.states() == {"board_1": "done", "board_2": "rolled_back"}
    assert site.told("board_2")["reason"] == "no gateway within 10 min"


def test_a_board_that_has_not_started_anew_yet_did_not_roll_back() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    site.road.end("board_1", UpdateOutcome.ON_TRIAL)

    site.board("board_1", "1", rollback="of the time before")
    site.work()

    assert site.states() == {"board_1": "trial"}


def test_a_trial_that_nobody_hears_of_halts_the_rollout() -> None:
    site = site_of("board_1", "board_2")
    site.updates.begin(NEW, ["board_1", "board_2"], parallel=1)
    site.work()
    site.road.end("board_1", UpdateOutcome.ON_TRIAL)
    site.leaves("board_1")

    site.work(TRIAL_S - 1)
    assert site.states() == {"board_1": "trial", "board_2": "waiting"}
    site.work(1)
    site.work()

    assert site.states() == {"board_1": "failed", "board_2": "halted"}
    assert "not heard of" in site.rollout["reason"]


def test_who_has_it_already_is_left_alone() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()

    site.road.end("board_1", UpdateOutcome.UNCHANGED)
    site.work()

    assert site.states() == {"board_1": "unchanged"}


def test_settings_are_known_by_their_own_hash() -> None:
    site = site_of("board_1")
    bundle = Bundle.settings({"name": "attic"})
    plan = site.updates.begin(bundle, ["board_1"]).plan
    site.work()
    assert site.road.sending["board_1"].kind is UpdateKind.SETTINGS
    assert site.told("board_1")["kind"] == "settings"
    site.road.end("board_1", UpdateOutcome.ON_TRIAL)

    site.board("board_1", "2", config_hash=plan.config_hash, is_on_trial=True)
    assert site.states() == {"board_1": "trial"}
    site.board("board_1", "3", config_hash=plan.config_hash)
    site.work()

    assert site.states() == {"board_1": "done"}


def test_what_only_got_on_is_published_once_a_second_and_not_kept() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    writes, published = site.disk.writes, []
    for done in range(1, 100):
        site.road.progress("board_1", done, 100)
        site.work(0.1)
        published.append(site.told("board_1")["update_percentage"])

    assert len(set(published)) == pytest.approx(10, abs=1)
    assert published == sorted(published)
    assert site.disk.writes == writes


def test_of_a_board_that_cannot_be_updated_nothing_is_told() -> None:
    site = site_of("board_1")
    site.work()
    assert site.told("board_1")["state"] == "idle"

    site.board("board_1", "2", slot="")
    site.board("board_2", slot="")
    site.work()

    assert {t: p for t, p in site.shelf.retained.items() if t.endswith("/update")} == {
        "board_1/update": b""
    }


def test_the_newest_ten_that_are_over_are_told_of() -> None:
    site = site_of("board_1")
    for number in range(12):
        site.updates.begin(firmware(f"0.2.{number}"), ["board_1"])
        site.work()
        site.road.end("board_1", UpdateOutcome.REFUSED, "no")
        site.work()

    assert [each.number for each in site.updates.rollouts] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
    assert sorted(site.disk.rows) == [*range(2, 13)]


def test_what_was_kept_and_cannot_be_read_costs_that_rollout_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = site_of()
    for board in BOARDS[:3]:
        site.updates.begin(NEW, [board])
    entry, bundle = site.disk.rows[1]
    site.disk.rows[1] = "nonsense", bundle
    site.disk.rows[2] = json.dumps({**json.loads(entry), "targets": [["x"]]}), bundle
    site.disk.rows[4] = entry, b"no bundle"

    site.restart()

    assert [each.number for each in site.updates.rollouts] == [3]
    assert len([each for each in caplog.records if "cannot be" in each.message]) == 3


def test_what_is_kept_is_found_in_the_database(tmp_path: Path) -> None:
    site = site_of()
    first, second, third = (
        site.updates.begin(firmware(f"0.{number}.0"), [board])
        for number, board in enumerate(BOARDS[:3], 2)
    )
    entries = [
        rollouts.Entry(each.number, each.entry(), b"bundle") for each in (first, second, third)
    ]
    database = StateDatabase(tmp_path / "gateway.db")
    database.write([rollouts.put(entries)])
    first.abort("by request")

    database.write(
        [
            rollouts.note(1, first.entry(), is_over=True),
            rollouts.note(2, second.entry(), is_over=False),
            rollouts.drop([3]),
        ]
    )

    assert rollouts.load(database.select) == [(1, first.entry(), b""), entries[1]]
    database.close()


boards = st.sampled_from(BOARDS[:4])


class Life(RuleBasedStateMachine):
    """Whatever boards and people do, no more than allowed have it under way."""

    def __init__(self) -> None:
        super().__init__()
        self.site = site_of(*BOARDS[:4])
        self.lives = dict.fromkeys(BOARDS, 1)
        self.confirmed: set[str] = set()
        self.site.updates.begin(NEW, BOARDS[:4], canary=1, parallel=2)
        self.site.work()

    @rule(board=boards, outcome=st.sampled_from(UpdateOutcome), seconds=st.sampled_from([0, 60]))
    def ends(self, board: str, outcome: UpdateOutcome, seconds: float) -> None:
        if board not in self.site.road.sending:
            return
        if outcome is UpdateOutcome.ON_TRIAL:
            self.lives[board] += 1
            self.site.tries(board, NEW, str(self.lives[board]))
        else:
            self.site.road.end(board, outcome, "for a reason")
        self.site.work(seconds)

    @rule(board=boards, state=st.sampled_from(["confirmed", "rolled_back"]))
    def says(self, board: str, state: str) -> None:
        if self.site.states()[board] == "trial":
            self.site.says(board, state, NEW, "for a reason")
            self.site.work()

    @rule(board=boards)
    def comes_and_goes(self, board: str) -> None:
        self.site.leaves(board)
        self.site.work(60)
        if self.site.states()[board] != "trial":
            self.site.board(board, str(self.lives[board]))
        self.site.work()

    @rule()
    def the_gateway_starts_anew(self) -> None:
        self.site.restart()
        for board, state in self.site.states().items():
            if state != "trial":
                self.site.board(board, str(self.lives[board]))
        self.site.work()

    @rule()
    def somebody_aborts(self) -> None:
        self.site.updates.abort()
        self.site.work()

    @invariant()
    def no_more_than_allowed(self) -> None:
        states = self.site.states()
        rollout = self.site.updates.rollouts[0]
        busy = [board for board, state in states.items() if state in ("sending", "trial")]
        assert len(busy) <= (2 if "done" in states.values() else 1)
        assert {board for board, state in states.items() if state == "sending"} == set(
            self.site.road.sending
        )
        if rollout.phase is not Phase.RUNNING:
            assert not self.site.road.sending
            assert "waiting" not in states.values()
        if "rolled_back" in states.values():
            assert rollout.phase in (Phase.HALTED, Phase.ABORTED)
        kept = json.loads(self.site.disk.rows[1][0])
        assert {board: state for board, state, *_ in kept["targets"]} == states


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=25)


def test_a_rollout_that_the_disk_does_not_take_is_given_up_and_told() -> None:
    site = site_of("board_1")
    site.disk.error = StoreError("the disk is full")
    told: list[object] = []
    site.updates.begin(NEW, ["board_1"], on_kept=told.append)
    site.work()

    assert told == [site.disk.error]
    assert site.states() == {"board_1": "aborted"}
    assert site.rollout["reason"] == "it could not be kept: the disk is full"
    assert site.road.sending == {}


def test_a_board_that_is_being_sent_it_cannot_have_confirmed_it() -> None:
    site = site_of("board_1")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    site.says("board_1", "confirmed", NEW)
    site.work()
    assert site.states() == {"board_1": "sending"}
    assert site.disk.rows[1][1] is not None

    site.tries("board_1", NEW)
    site.says("board_1", "confirmed", NEW)
    site.work()
    assert site.states() == {"board_1": "done"}


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "there, and no room"])
def test_who_was_interrupted_and_waits_costs_nothing(*, is_away: bool) -> None:
    """There is nothing to be done at a moment that is over."""
    site = site_of("board_1", "board_2")
    site.updates.begin(NEW, ["board_1", "board_2"], canary=1)
    site.work()
    if is_away:
        site.leaves("board_1")
    else:
        site.road.end("board_1", UpdateOutcome.INTERRUPTED, "a cable that is pulled")
    site.work(3600.0)

    (rollout,) = site.updates.rollouts
    assert rollout.deadline_s(site.now_s) == float("inf")


def test_who_took_it_back_is_known_until_it_keeps_it() -> None:
    site = site_of("board_1", "board_2")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    site.tries("board_1", NEW)
    site.says("board_1", "rolled_back", NEW, "crash: OSError")
    site.work()
    why = site.updates.why_taken_back("board_1", NEW.short_hash)
    assert why.startswith("took it back in rollout 1 (crash: OSError)")
    assert site.updates.why_taken_back("board_2", NEW.short_hash) == ""
    assert site.updates.why_taken_back("board_1", firmware("0.3.0").short_hash) == ""

    site.board("board_1", "3")
    site.updates.begin(NEW, ["board_1"])
    site.work()
    assert site.updates.why_taken_back("board_1", NEW.short_hash) == why, "not tried yet"
    site.tries("board_1", NEW, "4")
    site.says("board_1", "confirmed", NEW)
    site.work()
    assert site.updates.why_taken_back("board_1", NEW.short_hash) == ""


def test_a_board_that_is_replaced_leaves_its_rollouts_and_halts_nobody() -> None:
    site = site_of()
    site.updates.begin(NEW, BOARDS[:4], parallel=2)
    site.work()
    site.tries("board_1", NEW)
    site.leaves("board_1")

    assert site.updates.replaced("board_1", "new") == [1], "it is on trial"
    assert site.updates.replaced("board_2", "new") == [1], "it is being sent it"
    assert site.updates.replaced("board_4", "new") == [1], "it is waited for"
    assert site.updates.replaced("board_5", "new") == []
    site.work(TRIAL_S + 1.0)

    assert site.road.aborted == ["board_2"]
    assert site.states() == {
        "board_1": "aborted",
        "board_2": "aborted",
        "board_3": "sending",
        "board_4": "aborted",
    }
    assert site.told("board_4")["reason"] == "replaced by new"
    assert site.rollout["state"] == "running"


def test_a_crash_before_a_replaced_board_left_its_rollouts_changes_nothing() -> None:
    site = site_of()
    site.updates.begin(NEW, ["board_1", "board_2"], parallel=1)
    site.work()
    site.devices.replace("board_2", "board_3")
    known = site.devices.get("board_3")
    assert known is not None
    kept = Registered({"board_3": entry_of(known)})

    site.restart()
    site.devices.restore(kept)
    site.updates.take(site.disk.load())
    site.work()

    assert site.states() == {"board_1": "waiting", "board_2": "aborted"}
