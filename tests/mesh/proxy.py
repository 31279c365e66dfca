#!/usr/bin/env python3
"""A proxy as a mesh has it, for one pod: it passes each connection on to where it was to go.

It listens for inbound and for outbound connections that iptables, or our own redirection, give to it. As Linkerd's
and Istio's proxies do, it runs as a user of its own from the start, so that this user makes its listening sockets.
With --tls what is outside of the pod is spoken to by TLS, and the application in plain text.
"""

import argparse
import asyncio
import socket
import ssl
import struct

SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; for IPv6 it is IP6T_SO_ORIGINAL_DST
IP_TRANSPARENT = 19  # linux/in.h
IPV6_TRANSPARENT = 75  # linux/in6.h


def original(sock):
    """Where the connection was to go: by conntrack, else by the socket's own address."""
    try:
        if sock.family == socket.AF_INET:
            port, address = struct.unpack("!2xH4s8x", sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
        else:
            port, address = struct.unpack("!2xH4x16s4x", sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28))
        return socket.inet_ntop(sock.family, address), port
    except OSError:
        return sock.getsockname()[:2]


async def pump(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except OSError:
        writer.close()


async def forward(reader, writer, source, tls):
    host, port = original(writer.get_extra_info("socket"))
    local = None
    if source:
        local = (source[":" in host], 0)
    try:
        name = "outside" if tls else None
        back, forth = await asyncio.open_connection(host, port, local_addr=local, ssl=tls, server_hostname=name)
    except OSError as error:
        print(f"{host}:{port}: {error}", flush=True)
        writer.transport.abort()
        return
    await asyncio.gather(pump(reader, forth), pump(back, writer))
    for end in (writer, forth):
        end.close()


def listener(family, address, port, transparent):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if transparent and family == socket.AF_INET:
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    elif transparent:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    sock.bind((address, port))
    return sock


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inbound", type=int, required=True)
    parser.add_argument("--outbound", type=int, required=True)
    parser.add_argument("--source", nargs=2, help="the IPv4 and IPv6 address that the application sees")
    parser.add_argument("--transparent", action="store_true")
    parser.add_argument("--tls", help="a PEM file with a certificate and its key")
    args = parser.parse_args()
    server = client = None
    if args.tls:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(args.tls)
        server.set_alpn_protocols(["h2", "http/1.1"])
        client = ssl.create_default_context(cafile=args.tls)
        client.check_hostname = False
    # More than there are connections at once: cookies (RFC 4987 section 3.6) are not what is tried here.
    backlog = 4096
    for family in (socket.AF_INET, socket.AF_INET6):
        everywhere = "0.0.0.0" if family == socket.AF_INET else "::"
        inbound = listener(family, everywhere, args.inbound, args.transparent)
        outbound = listener(family, everywhere, args.outbound, args.transparent)
        await asyncio.start_server(lambda r, w: forward(r, w, args.source, None), sock=inbound, ssl=server, backlog=backlog)
        await asyncio.start_server(lambda r, w: forward(r, w, None, client), sock=outbound, backlog=backlog)
    print("listens", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
