# SPDX-License-Identifier: Apache-2.0
"""Reads a ring file of NIXL 1.4 or 1.5 as the Python reader among NIXL's examples does.

Written after a description of that program, which is in no wheel: the file is mapped, a slot is looked at through ctypes,
the position moves on, and two lines with time and level go to standard error for each event. It takes out what it reads.
"""

import argparse
import ctypes
import logging
import mmap
import sys
import time

NAMES = (
    "agent_tx_bytes agent_rx_bytes agent_tx_requests_num agent_rx_requests_num agent_memory_registered "
    "agent_memory_deregistered agent_xfer_time agent_xfer_post_time agent_err_not_posted agent_err_invalid_param "
    "agent_err_backend agent_err_not_found agent_err_mismatch agent_err_not_allowed agent_err_repost_active "
    "agent_err_unknown agent_err_not_supported agent_err_remote_disconnect agent_err_canceled "
    "agent_err_no_telemetry agent_telemetry_events_dropped"
).split()

VERSION = 4


class Header(ctypes.Structure):
    _fields_ = [
        ("write_pos", ctypes.c_uint64),
        ("read_pos", ctypes.c_uint64),
        ("version", ctypes.c_int32),
        ("expected_version", ctypes.c_int32),
        ("capacity", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    ]


class Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_uint32), ("padding", ctypes.c_uint32), ("value", ctypes.c_uint64)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--telemetry_path", required=True)
    parser.add_argument("--until-empty", action="store_true", help="end when there is nothing more")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    log = logging.getLogger("telemetry")

    with open(arguments.telemetry_path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    header = Header.from_buffer(memory)
    if header.version != VERSION:
        raise RuntimeError(f"Version mismatch: expected {VERSION}, got {header.version}")
    size = ctypes.sizeof(Header) + header.capacity * ctypes.sizeof(Event)
    if len(memory) < size:
        raise RuntimeError(f"File size mismatch: expected {size}, got {len(memory)}")

    events = 0
    while True:
        at = header.read_pos
        if at == header.write_pos:
            if arguments.until_empty:
                break
            time.sleep(0.1)
            continue
        event = Event.from_buffer(memory, ctypes.sizeof(Header) + at * ctypes.sizeof(Event))
        header.read_pos = (at + 1) & header.mask
        name = NAMES[event.type] if event.type < len(NAMES) else f"unknown_event_{event.type}"
        log.info("Event: %s", name)
        log.info("Value: %d", event.value)
        events += 1
    print(events)
    return 0


if __name__ == "__main__":
    sys.exit(main())
