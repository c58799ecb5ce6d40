"""What goes wrong on a virtual radio, by a plan or by calls; the same for the same seed."""

from collections.abc import Callable

from bumble import hci

from gateway.simulate.faults import FaultPlan, RadioAction, radio_events
from gateway.simulate.faults.schedule import chance
from gateway.simulate.faults.timeline import Timeline
from gateway.simulate.radio.air import Air, Transmission
from gateway.simulate.radio.chip import Chip


class Interference:
    """Does to the air what a plan says, from `start` on, and what it is told."""

    def __init__(self, air: Air, plan: FaultPlan, on_unplug: Callable[[], None]) -> None:
        """`on_unplug` is called when the gateways' adapters go away."""
        self.counts: dict[RadioAction, int] = {}
        """What happened, by plan or by call, and how often."""
        self.is_unplugged = False
        """Whether gateways find no adapter."""
        self._air = air
        self._on_unplug = on_unplug
        self._adverts = chance(f"{plan.seed} adverts")
        self._choice = chance(f"{plan.seed} boards")
        self._is_silent = False
        self._advert_drop = plan.radio.advert_drop
        self._timeline = Timeline(radio_events(plan), self._apply)
        air.loses_advert = self._loses
        self.slow(plan.radio.radio_slow_s)

    def start(self) -> None:
        """Begin with what the plan says."""
        self._timeline.start()

    def calm(self) -> None:
        """End the plan and all that was asked for: from now on everything passes."""
        self._timeline.stop()
        self._is_silent = self.is_unplugged = False
        self._advert_drop = 0.0
        self._air.muted.clear()
        self.slow(0.0)

    def lose_adverts(self, share: float) -> None:
        """Let this share of the adverts not be heard."""
        self._advert_drop = share

    def slow(self, seconds: float) -> None:
        """Let each packet of a link take so much longer, one after the other."""
        self._air.holds = lambda _from, _to: seconds
        self._air.pump()

    def silence(self) -> None:
        """Let no advert be heard, until `end_silence`; links stay."""
        self._apply(RadioAction.SILENCE)

    def end_silence(self) -> None:
        """Let adverts be heard again."""
        self._apply(RadioAction.END_SILENCE)

    def mute(self, address: str) -> None:
        """Let a board take what it is sent, and say nothing any more, while its link is up."""
        self._air.muted.add(hci.Address(address, hci.Address.PUBLIC_DEVICE_ADDRESS))

    def unmute(self) -> None:
        """Let all boards speak again; what was said meanwhile is lost."""
        self._apply(RadioAction.UNMUTE)

    def unplug(self) -> None:
        """Take away the gateways' adapters with all their links, until `plug`."""
        self._apply(RadioAction.UNPLUG)

    def plug(self) -> None:
        """Give adapters to gateways again."""
        self._apply(RadioAction.PLUG)

    def _apply(self, action: RadioAction) -> None:
        self.counts[action] = self.counts.get(action, 0) + 1
        match action:
            case RadioAction.DROP:
                self._drop_one()
            case RadioAction.MUTE:
                self._air.muted.update(chip.public_address for chip in self._one_of_the_boards())
            case RadioAction.UNMUTE:
                self._air.muted.clear()
            case RadioAction.SILENCE:
                self._is_silent = True
            case RadioAction.END_SILENCE:
                self._is_silent = False
            case RadioAction.UNPLUG:
                self.is_unplugged = True
                self._on_unplug()
            case RadioAction.PLUG:
                self.is_unplugged = False

    def _drop_one(self) -> None:
        for chip in self._one_of_the_boards():
            for connection in tuple(chip.le_connections.values()):
                self._air.drop(chip, connection, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)

    def _one_of_the_boards(self) -> list[Chip]:
        """Return one of those that somebody is connected to, if there is any."""
        boards = [chip for chip in self._air.chips if chip.is_peripheral]
        boards.sort(key=lambda chip: str(chip.public_address))
        return [self._choice.choice(boards)] if boards else []

    def _loses(self, _transmission: Transmission) -> bool:
        share = self._advert_drop
        return self._is_silent or (share > 0 and self._adverts.random() < share)
