"""Simulated boards, faults and a broker: users try the gateway with them, tests are built on them."""
