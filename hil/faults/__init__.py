"""What breaks: small faults of wires, networks, brokers, disks and machines.

Each begins with a verb and heals by calling what the verb returned; several at once on one wire
add up. Chance comes from a `random.Random` that is given, time from the clock of the wire.
"""
