"""http2.py PORT: hypercorn, which answers /200 with 200 and so on, also after an upgrade."""

import asyncio
import itertools
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

answered = itertools.count()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": event["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    status = int(scope["path"][1:])
    body = b"" if status in (204, 304) else b"x" * 100
    # A value that is never the same pushes others out of the table.
    number = b"%d" % next(answered)
    # Without a length: a client that knows it may cancel the stream before END_STREAM comes.
    headers = [(b"x-number", number)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


config = Config()
config.bind = [f"[::]:{sys.argv[1]}"]
config.keep_alive_max_requests = 1_000_000
config.h2_max_concurrent_streams = 1000
asyncio.run(serve(app, config))
