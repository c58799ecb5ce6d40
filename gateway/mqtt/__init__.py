"""MQTT: topics, payloads and the publisher; README.md is the contract with subscribers."""
