"""What people and programs ask for over MQTT: payloads in, checked values out; pure."""
