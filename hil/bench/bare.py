"""The rival: bare paho, publishing messages from memory as fast as it can. QoS 1, window 20.

`python -m hil.bench.bare PORT FILE WAY` prints the seconds from the first publish to the last
PUBACK, for each of PASSES. Ways: `loop`, paho's loop() driven by the publishing thread; `thread`,
its loop_start(). MQTT 3.1.1 and no properties, as it comes: nothing is stored, so nothing survives.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

HOST = "127.0.0.1"
WINDOW = 20
PASSES = 3  # each takes a fraction of a second, and they differ
WAYS = ("loop", "thread")

Messages = Sequence[tuple[str, bytes]]


def publish_by_loop(port: int, messages: Messages) -> float:
    """Publish and drive paho's loop in one thread; return the seconds it took."""
    client, flying, done = _client(), 0, 0

    def on_publish(*_: object) -> None:
        nonlocal flying, done
        flying -= 1
        done += 1

    client.on_publish = on_publish
    client.connect(HOST, port)
    while not client.is_connected():
        client.loop(0.1)
    began_s, sent = time.perf_counter(), 0
    while done < len(messages):
        while flying < WINDOW and sent < len(messages):
            client.publish(*messages[sent], qos=1)
            flying += 1
            sent += 1
        client.loop(0.05)
    took_s = time.perf_counter() - began_s
    client.disconnect()
    return took_s


def publish_by_thread(port: int, messages: Messages) -> float:
    """Publish beside paho's own thread; return the seconds it took."""
    client, window, left, over = _client(), threading.Semaphore(WINDOW), len(messages), False
    finished = threading.Event()

    def on_publish(*_: object) -> None:
        nonlocal left
        left -= 1
        window.release()
        if left == 0:
            finished.set()

    client.on_publish = on_publish
    client.connect(HOST, port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.01)
    began_s = time.perf_counter()
    for topic, payload in messages:
        window.acquire()
        client.publish(topic, payload, qos=1)
    over = finished.wait(300)
    took_s = time.perf_counter() - began_s
    client.disconnect()
    client.loop_stop()
    if not over:
        raise TimeoutError("the broker did not acknowledge everything")
    return took_s


def _client() -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(WINDOW)
    client.max_queued_messages_set(0)
    return client


def main() -> int:
    """Publish PASSES times and print how long each took."""
    port, file, way = sys.argv[1:]
    messages: Messages = pickle.loads(Path(file).read_bytes())  # noqa: S301  # the bench's own
    publish = publish_by_loop if way == "loop" else publish_by_thread
    for _ in range(PASSES):
        print(publish(int(port), messages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
