"""Simulated boards, faults and a broker: to try the gateway with, and to test it with."""
