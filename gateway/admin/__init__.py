"""The gateway is operated over MQTT: requests in, answers out."""
