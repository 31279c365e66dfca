/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which end of a connection is the client, where no SYN tells: by sockets, and by ports. */
#ifndef METRICD_NET_CLIENT_H
#define METRICD_NET_CLIENT_H

#include "count/ports.h"
#include "net/packet.h"

/* Which socket client_socket looks for at an end of the pod's. */
enum client_socket {
	SOCKET_LISTENS,	  /* of TCP, that accepts connections at this end */
	SOCKET_CONNECTED, /* of TCP, that has the packet's connection */
	SOCKET_DATAGRAM,  /* of UDP */
};

/*
 * Does this network namespace have such a socket (enum client_socket) at the packet's local end,
 * or, if `remote`, at its remote end? A socket that listens is found by a port of the other end
 * that no connection has: 0.
 */
__noinline int client_socket(struct __sk_buff *skb, __u32 what, __u32 remote)
{
	struct scratch *s = scratch();
	struct bpf_sock_tuple tuple = {};
	const struct conn_key *k;
	__u16 own_port, other_port;
	const __u64 *own, *other;
	struct bpf_sock *sk;
	__u32 size, state;

	if (!s || !skb->len)
		return 0;
	k = &s->packet.key;
	own = remote ? k->remote : k->local;
	other = remote ? k->local : k->remote;
	own_port = remote ? k->remote_port : k->local_port;
	other_port = remote ? k->local_port : k->remote_port;
	if (what == SOCKET_LISTENS)
		other_port = 0;
	if (!own[0] && (__u32)own[1] == bpf_htonl(0xffff)) {
		size = sizeof(tuple.ipv4);
		tuple.ipv4.saddr = other[1] >> 32;
		tuple.ipv4.daddr = own[1] >> 32;
		tuple.ipv4.sport = bpf_htons(other_port);
		tuple.ipv4.dport = bpf_htons(own_port);
	} else {
		size = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, other, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, own, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = bpf_htons(other_port);
		tuple.ipv6.dport = bpf_htons(own_port);
	}
	if (what == SOCKET_DATAGRAM)
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	if (what == SOCKET_DATAGRAM)
		return 1;
	return (state == BPF_TCP_LISTEN) == (what == SOCKET_LISTENS);
}

/*
 * Is the local end of the packet's connection the client? Whoever listens is the server; then, to
 * whose port a connection has opened before. A socket of the pod's without either has a port of
 * those that clients get, or it is a server's that no longer listens. Of what is no socket's here
 * the end with the higher port is taken for the client.
 */
__noinline int client_is_local(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	const struct conn_key *k;
	bool loopback, inbound, outbound;

	if (!s || !skb->len)
		return 0;
	k = &s->packet.key;
	loopback = conn_is_loopback(k);
	if (client_socket(skb, SOCKET_LISTENS, false))
		return 0;
	if (loopback && client_socket(skb, SOCKET_LISTENS, true))
		return 1;
	inbound = port_is_servers(DIRECTION_INBOUND, k->local_port);
	outbound = port_is_servers(DIRECTION_OUTBOUND, k->remote_port);
	if (inbound != outbound)
		return outbound;
	if (!loopback && client_socket(skb, SOCKET_CONNECTED, false))
		return k->local_port >= config.client_ports_low &&
		       k->local_port <= config.client_ports_high;
	return k->local_port > k->remote_port;
}

#endif
