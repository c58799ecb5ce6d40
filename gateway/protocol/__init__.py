"""The board protocol, sans-IO: bytes to values and back; README.md is the contract."""
