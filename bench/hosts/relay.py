"""`python -m bench.hosts.relay A B DELAY JITTER LOSS`: forwards packets between two network devices, late or never.

Each packet waits for DELAY to DELAY + JITTER seconds, so packets overtake each other if JITTER is not 0. The share LOSS
of them is dropped. It writes a line when it forwards packets, and runs until it is killed.

It does what `tc netem` does, and works with kernels that have no netem.
"""

import random
import select
import socket
import sys
import time
from contextlib import suppress
from heapq import heappop, heappush

_ALL = 3  # ETH_P_ALL
_SOL_PACKET, _VNET_HEADER, _IGNORE_OUTGOING = 263, 15, 23  # linux/if_packet.h
_LARGEST = 70_000  # bytes; devices of one machine pass packets that are to be split later


def open_device(name: str) -> socket.socket:
    """A socket for the packets that arrive at a device.

    Each begins with the header that says what is left to do, such as a checksum.
    """
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    device.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
    device.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    device.bind((name, 0))
    return device


def relay(one: socket.socket, other: socket.socket, delay: float, jitter: float, loss: float) -> None:
    opposite = {one: other, other: one}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0  # orders packets that are due at the same time
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select([one, other], [], [], patience)[0]:
            packet = device.recv(_LARGEST)
            if random.random() >= loss:
                number += 1
                due = time.monotonic() + delay + random.random() * jitter
                heappush(waiting, (due, number, opposite[device], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heappop(waiting)
            with suppress(OSError):  # a device that cannot take it drops it
                device.send(packet)


def main() -> None:
    one, other, delay, jitter, loss = sys.argv[1:]
    devices = open_device(one), open_device(other)
    print("forwarding", flush=True)
    relay(*devices, float(delay), float(jitter), float(loss))


if __name__ == "__main__":
    main()
