"""Bytes on the wire: every packet of one TCP port on the loopback device, counted as on Ethernet.

A raw packet socket (root) sees each packet that arrives there, once. Loopback carries up to 64 kB
in one packet, which no network does, so each is counted as the segments that it would be: headers
of 52 bytes (IP, TCP, timestamps) for every 1448 of payload, and an acknowledgement for every
second segment where loopback sends one for the whole. The link's own frame is not counted.

What carries the records of one lane (PUBLISH, PUBACK, and the bare acknowledgements of both) is
told from the rest (health, status, keepalive).
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from .mqtt import MQTT_5, PUBACK, PUBLISH, Packet, Splitter
from .process import BenchError

HEADER_BYTES = 52
SEGMENT_BYTES = 1448

_ETH_P_IP = 0x0800
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PACKET_OUTGOING = 4
_LARGEST_BYTES = 65536
_BUFFER_BYTES = 64 * 2**20
_SO_RCVBUFFORCE = 33
_TCP, _SYN_FIN_RST = 6, 0x07


@dataclass(frozen=True, slots=True)
class Segment:
    """What one packet carried, and in which direction."""

    up: bool  # to the broker
    payload: bytes
    header_bytes: int = HEADER_BYTES
    opens_or_ends: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over the wire between gateway and broker."""

    records: int
    record_bytes: int  # of all that carried records, both directions
    other_bytes: int
    messages: int  # that carried records

    @property
    def b_per_record(self) -> float:
        """Bytes on the wire for each record."""
        if not self.records:
            raise BenchError("no record went over the wire")
        return self.record_bytes / self.records


def wire_bytes(payload_bytes: int, header_bytes: int = HEADER_BYTES) -> int:
    """Return what a packet costs on a network whose segments carry 1448 bytes.

    Its own segments with a header each, and the acknowledgements that loopback spared: one for
    every second segment, less the one that was sent and is counted for itself.
    """
    segments = max(1, -(-payload_bytes // SEGMENT_BYTES))
    spared_acks = -(-segments // 2) - 1
    return payload_bytes + segments * header_bytes + spared_acks * HEADER_BYTES


def weigh(segments: Iterable[Segment], lane: str) -> Traffic:
    """Sum up segments in the order in which they went: the records of `lane`, and the rest.

    One without payload acknowledges, and belongs to what the other side sent last.
    """
    splitters = {True: Splitter(MQTT_5), False: Splitter(MQTT_5)}
    last = {True: False, False: False}
    incomplete: dict[bool, list[int]] = {True: [], False: []}
    records = messages = record_bytes = other_bytes = 0
    for segment in segments:
        size_bytes = wire_bytes(len(segment.payload), segment.header_bytes)
        if segment.opens_or_ends:
            other_bytes += size_bytes
            continue
        if not segment.payload:
            if last[not segment.up]:
                record_bytes += size_bytes
            else:
                other_bytes += size_bytes
            continue
        # A message of several packets is known for what it is when its last one is there.
        waiting = incomplete[segment.up]
        waiting.append(size_bytes)
        found = list(splitters[segment.up].feed(segment.payload))
        if not found:
            continue
        carries = [packet for packet in found if _carries(packet, lane)]
        last[segment.up] = bool(carries)
        if carries:  # the headers are theirs, too, of what travels with them
            beside = sum(packet.size_bytes for packet in found if packet not in carries)
            record_bytes += sum(waiting) - beside
            other_bytes += beside
        else:
            other_bytes += sum(waiting)
        waiting.clear()
        records += sum(packet.records for packet in carries)
        messages += sum(packet.kind == PUBLISH for packet in carries)
    return Traffic(records, record_bytes, other_bytes, messages)


def _carries(packet: Packet, lane: str) -> bool:
    return packet.kind == PUBACK or (packet.kind == PUBLISH and packet.lane == lane)


class Tap:
    """Hears every packet from and to `port` on the loopback device, while it is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError as exc:
            raise BenchError("to count bytes on the wire needs root") from exc
        _filter(self._socket, port)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.bind(("lo", _ETH_P_IP))
        self._socket.setblocking(False)
        self._segments: list[Segment] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def pass_time(self, duration_s: float) -> None:
        """Listen for so long."""
        until_s = time.monotonic() + duration_s
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(0.2, left_s))
            self._read()

    def take(self) -> list[Segment]:
        """Return what was heard since the last call. Raises BenchError if some was missed."""
        self._read()
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        dropped = struct.unpack("=II", statistics)[1]
        if dropped:
            raise BenchError(f"{dropped} packets were not heard: the machine is too busy")
        taken, self._segments = self._segments, []
        return taken

    def _read(self) -> None:
        while True:
            try:
                packet, address = self._socket.recvfrom(_LARGEST_BYTES)
            except BlockingIOError:
                return
            if address[2] != _PACKET_OUTGOING:  # else it is heard again as it arrives
                self._segments.append(_segment(packet, self._port))


def _segment(packet: bytes, port: int) -> Segment:
    ip_bytes = 4 * (packet[0] & 0x0F)
    total_bytes = int.from_bytes(packet[2:4], "big")
    _source, target = struct.unpack_from(">HH", packet, ip_bytes)
    header_bytes = ip_bytes + 4 * (packet[ip_bytes + 12] >> 4)
    flags = packet[ip_bytes + 13]
    payload = packet[header_bytes:total_bytes]
    return Segment(target == port, payload, header_bytes, bool(flags & _SYN_FIN_RST))


def _filter(sock: socket.socket, port: int) -> None:
    """Let the kernel pass TCP from and to `port` only: others use this loopback too."""
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 6, _TCP),
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x48, 0, 0, 0),  # the source port
        (0x15, 2, 0, port),
        (0x48, 0, 0, 2),  # the target port
        (0x15, 0, 1, port),
        (0x06, 0, 0, _LARGEST_BYTES),
        (0x06, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    pointer = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
