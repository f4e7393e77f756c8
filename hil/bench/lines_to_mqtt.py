"""Bare paho: each line of each terminal becomes a message at QoS 1. What a rival is measured by.

`python lines_to_mqtt.py PORT TTY...`; needs paho-mqtt and nothing else, of ours least of all.
"""

from __future__ import annotations

import json
import os
import select
import sys

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    """Pass lines on until killed."""
    port, *terminals = sys.argv[1:]
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.connect_async("127.0.0.1", int(port))
    client.loop_start()
    files = {os.open(path, os.O_RDONLY | os.O_NOCTTY): at for at, path in enumerate(terminals)}
    rest = dict.fromkeys(files, b"")
    while True:
        for file in select.select(list(files), [], [])[0]:
            *lines, rest[file] = (rest[file] + os.read(file, 4096)).split(b"\n")
            for line in lines:
                client.publish("lines", json.dumps({str(files[file]): int(line)}), qos=1)


if __name__ == "__main__":
    main()
