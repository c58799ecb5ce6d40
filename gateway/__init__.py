"""The edge gateway: sensor boards on serial lines become devices on MQTT."""

__version__ = "0.1.0"
