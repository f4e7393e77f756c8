"""Simulated gateways, many in one process, for the benches of the city's end."""
