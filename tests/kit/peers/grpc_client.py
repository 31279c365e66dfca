"""grpc_client.py TARGET ROUNDS WHAT [CERT]: calls every kind of method with every status, as
grpc_server.py expects it, and prints how many calls ended how: "STATUS COUNT" in each line.

WHAT is "statuses", "cancel" (calls that the client gives up once its standard input ends) or
"deadline" (as many with a deadline that passes). Over two connections, some calls at a time; by TLS where CERT, a file, is the
server's certificate for the name "pod".
"""

import collections
import pathlib
import sys
import threading
from concurrent import futures

import grpc

target, rounds, what, *cert = sys.argv[1:]
rounds = int(rounds)

# No call is made twice, and the channels share no connection.
OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
if cert:
    TRUSTED = grpc.ssl_channel_credentials(pathlib.Path(cert[0]).read_bytes())
    OPTIONS.append(("grpc.ssl_target_name_override", "pod"))
    CHANNELS = [grpc.secure_channel(target, TRUSTED, OPTIONS) for _ in range(2)]
else:
    CHANNELS = [grpc.insecure_channel(target, OPTIONS) for _ in range(2)]
DEADLINE = 1  # Seconds in which every call has begun, on a busy machine, too.


def call(channel, kind, message, timeout=30):
    """Starts a call."""
    several = [message, b"more", b"x" * 20_000]
    path = f"/test.Counts/{kind}"
    match kind:
        case "Unary":
            return channel.unary_unary(path).future(message, timeout)
        case "Upload":
            return channel.stream_unary(path).future(iter(several), timeout)
        case "Download":
            return channel.unary_stream(path)(message, timeout)
        case "Both":
            return channel.stream_stream(path)(iter(several), timeout)


def ended(started, kind):
    """How a call ends; its messages are read."""
    try:
        if kind in STREAMED:
            collections.deque(started, 0)
        else:
            started.result()
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass
    return started.code().value[0]


def statuses(channel, kind, number):
    code, count = number % 17, number % 3
    mode = b"early" if number % 5 == 0 else b"plain"
    return ended(call(channel, kind, b"%d %d %s" % (code, count, mode)), kind)


def cancel(channel, kind, _):
    started = call(channel, kind, b"0 1 hold")
    if kind in STREAMED:
        next(started)
    told.wait()
    started.cancel()
    return ended(started, kind)


def deadline(channel, kind, _):
    return ended(call(channel, kind, b"0 1 hold", DEADLINE), kind)


STREAMED = ("Download", "Both")
KINDS = ("Unary", "Upload", *STREAMED)
WORK = {"statuses": (statuses, 17), "cancel": (cancel, 1), "deadline": (deadline, 1)}

for channel in CHANNELS:
    grpc.channel_ready_future(channel).result(timeout=10)
told = threading.Event()
if what == "cancel":
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
work, numbers = WORK[what]
calls = [(CHANNELS[n % 2], kind, n) for n in range(rounds * numbers) for kind in KINDS]
with futures.ThreadPoolExecutor(32) as pool:
    counts = collections.Counter(pool.map(lambda c: work(*c), calls))
for channel in CHANNELS:
    channel.close()
for status, count in counts.items():
    print(status, count)
