"""Prints each reading exactly once: `python exactly_once.py HOST PORT`."""

import json
import sys
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion


class ExactlyOnce:
    """Feed it what arrives on `<device>/state`, `<device>/history` and `<device>/gap`."""

    def __init__(self) -> None:
        self.readings: dict[str, dict[str, Any]] = {}  # by id: in a database, the primary key
        self.gaps: dict[tuple[str, int, int], dict[str, Any]] = {}  # by device, boot, first number

    def feed(self, topic: str, payload: bytes | bytearray) -> list[dict[str, Any]]:
        """Return the readings of a message that are new."""
        if not payload:
            return []  # a retained state was cleared: its device was renamed or removed
        device, kind = topic.split("/")[-2:]
        document = json.loads(payload)
        if kind == "gap":
            whose = document.get("device", device)  # its key: a topic may change its device
            self.gaps[whose, document["boot"], document["from"]] = document
            return []
        batch = document if kind == "history" else [document]
        fresh = [reading for reading in batch if reading["id"] not in self.readings]
        self.readings.update({reading["id"]: reading for reading in fresh})
        return fresh


def main(host: str, port: int) -> None:
    """Follow all gateways of a broker; being named, it gets what came while it was away."""
    once = ExactlyOnce()

    def on_connect(client: Client, *_: object) -> None:
        client.subscribe([(f"edge/+/+/{kind}", 1) for kind in ("state", "history", "gap")])

    def on_message(_client: Client, _: object, message: MQTTMessage) -> None:
        for reading in once.feed(message.topic, message.payload):
            print(json.dumps(reading), flush=True)  # paho confirms a message after its on_message

    client = Client(CallbackAPIVersion.VERSION2, "my-subscriber", clean_session=False)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(host, port)
    client.loop_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
