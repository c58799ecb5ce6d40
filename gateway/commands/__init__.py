"""Commands on their way from MQTT to a board, each done at most once."""
