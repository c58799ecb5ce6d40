# Adverts and sleep, for the boards that have them: what config.json says of them, and the set-up.

from binascii import unhexlify

_RANGES = {"interval_s": (1, 86400, 60), "awake_s": (1, 600, 5)}


# Returns {"bthome": bool, "ble_key": 16 bytes, none, or None if it is wrong, "sleep": None or its
# keys}, and adds a text for each mistake.
def check(given, problems):
    bthome = given.get("bthome", False)
    if not isinstance(bthome, bool):
        problems.append("bthome must be true or false")
        bthome = False
    return {"bthome": bthome, "ble_key": _key(given, problems), "sleep": _sleep(given, problems)}


# A wrong key must not lead to readings in the open.
def _key(given, problems):
    text = given.get("ble_key", "")
    try:
        key = unhexlify(text)
        if len(key) in (0, 16):
            return key
    except (ValueError, TypeError):
        pass
    problems.append("ble_key must have 32 hex digits: no readings in adverts")
    return None


def _sleep(given, problems):
    sleep = given.get("sleep")
    if sleep is None:
        return None
    if not isinstance(sleep, dict):
        problems.append("sleep must be an object with interval_s and awake_s")
        return None
    checked = {}
    for key, (low, high, default) in _RANGES.items():
        number = sleep.get(key, default)
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            problems.append("sleep: %s must be a whole number from %d to %d" % (key, low, high))
            number = default
        checked[key] = number
    return checked


# Once the app has its ports and sensors.
def begin(app, settings, name):
    sleep = settings["sleep"]
    broadcast = None
    for port in app.ports:
        if port.link.name == "ble" and (sleep or settings["bthome"]):
            from board.broadcast import Broadcast

            broadcast = Broadcast(app, port.link, name, settings["ble_key"], sleep is not None)
    app.extra = broadcast
    if sleep:
        from board.sleeping import Sleep

        app.extra = Sleep(app, sleep["interval_s"], sleep["awake_s"], broadcast)
