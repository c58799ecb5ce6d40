"""Is there a Bluetooth adapter, is it let, does bluetoothd answer, and is anything heard?"""

from functools import partial
from pathlib import Path

from gateway.ble.service import VIRTUAL
from gateway.doctor.case import Case, Machine
from gateway.doctor.finding import Tell, error, ok, warning
from gateway.errors import LinkError
from gateway.links.threads import Call

WHERE = "bluetooth"
_START = "sudo systemctl enable --now bluetooth    # or: sudo apt install bluez"


async def look(case: Case, tell: Tell) -> None:
    """Go from the kernel to the air; the first step that fails ends it."""
    if not case.is_radio_wanted:
        tell(ok(WHERE, "not used: [ble] enabled = false"))
        return
    if case.adapter.startswith(VIRTUAL):
        tell(ok(WHERE, "simulated, not looked at"))
        return
    if not await Call(partial(_is_ready, case, tell)).result():
        return
    await _look_at_bluez(case, tell)


async def _look_at_bluez(case: Case, tell: Tell) -> None:
    # D-Bus takes memory and a second of a Raspberry Pi's time: only where there is an adapter.
    from gateway.links import ble_look  # noqa: PLC0415 - see above

    try:
        adapters = await ble_look.adapters()
    except LinkError as exc:
        _tell_of_bus(str(exc), tell)
        return
    name = case.adapter or next((each for each, powered in adapters.items() if powered), "")
    if not adapters or (case.adapter and case.adapter not in adapters):
        what = "the kernel has the adapter, and bluetoothd has not"
        tell(error(WHERE, what, "sudo systemctl restart bluetooth; dmesg | grep -i bluetooth"))
        return
    if not adapters.get(name):
        tell(
            error(
                WHERE,
                "the adapter is switched off",
                "bluetoothctl power on",
                expected="Powered: yes",
                got=", ".join(f"{each}: Powered: no" for each in adapters),
            )
        )
        return
    for_s = case.machine.scan_s
    try:
        heard = await ble_look.heard(name, for_s)
    except LinkError as exc:
        what = f"{name} does not scan: {exc}"
        tell(
            error(
                WHERE, what, "sudo systemctl restart bluetooth    # or: bluetoothctl power off, on"
            )
        )
        return
    if heard:
        tell(ok(WHERE, f"{name} hears {heard} device{'s' if heard > 1 else ''} within {for_s:g} s"))
    else:
        what = f"{name} scans, and hears nobody within {for_s:g} s"
        tell(
            warning(
                WHERE, what, "edge-gateway scan --all    # antenna, metal case, USB 3 beside it?"
            )
        )


def _is_ready(case: Case, tell: Tell) -> bool:
    """Look at what the kernel knows: adapters, and what switches radios off."""
    machine = case.machine
    found = [each.name for each in _entries(machine.sys / "class" / "bluetooth", "hci")]
    if not found or (case.adapter and case.adapter not in found):
        mend = "dmesg | grep -i bluetooth; sudo apt install pi-bluetooth    # or plug one in"
        if case.adapter:
            got = ", ".join(found) or "no adapter"
            what = f"there is no adapter {case.adapter}"
            tell(error(WHERE, what, mend, expected=f'adapter = "{case.adapter}"', got=got))
        else:
            what = "this machine has no Bluetooth adapter: serial lines only"
            tell(warning(WHERE, what, f"{mend}, or enabled = false in [ble]"))
        return False
    return _is_let(machine, tell)


def _is_let(machine: Machine, tell: Tell) -> bool:
    """Look at rfkill's switches. Source: Linux, Documentation/driver-api/rfkill.rst."""
    for entry in _entries(machine.sys / "class" / "rfkill", "rfkill"):
        try:
            kind, soft, hard = (
                (entry / name).read_text().strip() for name in ("type", "soft", "hard")
            )
        except OSError:
            continue
        if kind == "bluetooth" and hard == "1":
            what = "a switch of the machine turns the radio off (rfkill, hard)"
            tell(error(WHERE, what, "rfkill list    # its switch, or the firmware's settings"))
            return False
        if kind == "bluetooth" and soft == "1":
            what = "the radio is blocked (rfkill, soft)"
            tell(error(WHERE, what, "sudo rfkill unblock bluetooth && bluetoothctl power on"))
            return False
    return True


def _tell_of_bus(reason: str, tell: Tell) -> None:
    if "ServiceUnknown" in reason or "NameHasNoOwner" in reason:
        tell(error(WHERE, "bluetoothd is not running", _START))
    elif "AccessDenied" in reason:
        mend = "sudo usermod -aG bluetooth $(id -un)    # then log in again"
        tell(error(WHERE, "D-Bus does not let us speak to bluetoothd", mend))
    elif "bluetoothd does not answer" in reason:
        tell(error(WHERE, reason, "sudo systemctl restart bluetooth"))
    else:
        tell(error(WHERE, reason, f"sudo systemctl start dbus && {_START}"))


def _entries(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.name.startswith(prefix))
    except OSError:
        return []
