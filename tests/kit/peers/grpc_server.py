"""grpc_server.py PORT: every kind of method, without generated code.

The first message of a request says what is wanted, as "CODE COUNT MODE": that many messages, then
this status. Mode "hold" waits for the client to give up instead, "early" does not read the other
messages. Prints a line for each call: its status, or "held".
"""

import os
import sys
import threading
from concurrent import futures

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}


def say(how):
    os.write(1, f"{how}\n".encode())  # Whole lines, whichever thread writes.


def answers(requests, context):
    requests = iter(requests)
    code, count, mode = next(requests).split()[:3]
    if mode != b"early":
        for _ in requests:
            pass
    if mode == b"hold":
        say("held")
    for _ in range(int(count)):
        yield b"x" * 100
    if mode == b"hold":
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait()
        return
    say(int(code))
    if int(code):
        context.abort(CODES[int(code)], "as asked for")


def answer(requests, context):
    for _ in answers(requests, context):
        pass
    return b"x" * 100


METHODS = {
    "/test.Counts/Unary": grpc.unary_unary_rpc_method_handler(lambda r, c: answer([r], c)),
    "/test.Counts/Upload": grpc.stream_unary_rpc_method_handler(answer),
    "/test.Counts/Download": grpc.unary_stream_rpc_method_handler(lambda r, c: answers([r], c)),
    "/test.Counts/Both": grpc.stream_stream_rpc_method_handler(answers),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(32), [Handler()])
server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
server.wait_for_termination()
