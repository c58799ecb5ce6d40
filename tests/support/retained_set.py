"""What a broker retains at one moment, as a new subscriber sees it."""

import time

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

TIMEOUT_S = 30.0
MARKER = "marker"


def retained_set(host: str, port: int) -> dict[str, bytes]:
    """Return all retained messages: payloads by topic.

    Raises:
        AssertionError: the broker does not answer.
    """
    found: dict[str, bytes] = {}
    is_all = False

    def on_message(_client: Client, _: object, message: MQTTMessage) -> None:
        nonlocal is_all
        if message.topic == MARKER:
            is_all = True
        elif message.retain:
            found[message.topic] = bytes(message.payload)

    client = Client(CallbackAPIVersion.VERSION2)
    # With QoS 0: of QoS 1 the broker has but 20 on their way at a time, and the marker overtakes.
    client.on_connect = lambda client, *_: client.subscribe("#", 0)
    client.on_subscribe = lambda client, *_: client.publish(MARKER, b"x")  # behind all of them
    client.on_message = on_message
    client.connect(host, port)
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while not is_all and time.monotonic() < deadline:
            client.loop(0.1)
    finally:
        client.disconnect()
        client.loop(0.0)
    assert is_all, "the broker does not answer"
    return found
