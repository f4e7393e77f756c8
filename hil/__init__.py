"""The bench: everything around a gateway from its own side, and faults on demand.

Devices that answer byte by byte, wires to carry them, brokers, a network that can be cut, and the
city, which keeps the account of what was delivered and what is missing.
"""
