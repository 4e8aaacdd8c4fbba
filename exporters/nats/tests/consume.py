#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints messages as a consumer in Python sees them, one object a line.

    consume.py URL SUBJECT STREAM   those in a stream, and ends
    consume.py URL SUBJECT          those that come, after a line `ready`, until it is killed
"""

import asyncio
import json
import sys

import msgpack
import nats


def events(message):
    agent = message.headers["Nixl-Agent"]
    if message.headers["Content-Type"] == "application/jsonl":
        for line in message.data.decode().removesuffix("\n").split("\n"):
            event = json.loads(line)
            yield [event.get(name) for name in ("timestamp_us", "agent", "event", "category", "unit", "value")]
    else:
        packed = msgpack.unpackb(message.data)
        for time_us, at, value in packed["rows"]:
            name, category, unit = packed["events"][at]
            yield [time_us, packed["agent"], name, category, unit, value]


def show(message):
    shown = {"subject": message.subject, "headers": dict(message.headers), "events": list(events(message))}
    print(json.dumps(shown), flush=True)


async def quiet(error):
    """Servers that go are no news here."""


async def main(url, subject, stream=None):
    connection = await nats.connect(url, error_cb=quiet)
    if stream is None:
        subscription = await connection.subscribe(subject)
        await connection.flush()
        print("ready", flush=True)
        async for message in subscription.messages:
            show(message)
        return
    jetstream = connection.jetstream()
    left = (await jetstream.stream_info(stream)).state.messages
    subscription = await jetstream.subscribe(subject, stream=stream, ordered_consumer=True)
    while left > 0:
        message = await subscription.next_msg(timeout=20)
        show(message)
        left = message.metadata.num_pending
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
