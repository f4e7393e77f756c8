"""A whole city's gateways on one broker: how they come back together, and whether all is there.

The delivery decisions of each (`Outbox`), its way back (`Route`), its clients (`Link`) and its
payloads are the product's own; its sensors, its spool and its thread are not: many gateways share
a process.
"""
