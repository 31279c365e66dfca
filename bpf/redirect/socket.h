/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sockets that segments are for. */
#ifndef REDIRECT_SOCKET_H
#define REDIRECT_SOCKET_H

#include "redirect/segment.h"

/* The socket that the kernel finds for a segment so addressed, to be released, or NULL. */
static __always_inline struct bpf_sock *socket_find(struct __sk_buff *skb,
						    struct bpf_sock_tuple *tuple, bool ipv6)
{
	/* Two calls, so that the verifier knows the sizes. */
	if (ipv6)
		return bpf_skc_lookup_tcp(skb, tuple, sizeof(tuple->ipv6), BPF_F_CURRENT_NETNS, 0);
	return bpf_skc_lookup_tcp(skb, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* The state of the socket that the kernel would find for the segment, or 0. */
static __always_inline __u32 socket_state(struct __sk_buff *skb, struct segment *segment)
{
	struct bpf_sock *sk;
	__u32 state;

	sk = socket_find(skb, &segment->tuple, segment->ipv6);
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state;
}

/* Whether there is a connection for the segment, or one that is being made, or has just ended. */
static __always_inline bool socket_exists(struct __sk_buff *skb, struct segment *segment)
{
	__u32 state = socket_state(skb, segment);

	return state && state != BPF_TCP_LISTEN;
}

/*
 * The proxy's listener, to be released, or NULL. The inbound one may be bound to the address that
 * the client has named; the outbound one to the loopback's. No client is named, so that none of the
 * proxy's connections is found instead.
 */
static __always_inline struct bpf_sock *socket_listener(struct __sk_buff *skb,
							struct segment *segment, enum way way)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__be16 port = bpf_htons(way == INBOUND ? redirect_config.inbound_port
					       : redirect_config.outbound_port);

	if (segment->ipv6) {
		if (way == INBOUND)
			__builtin_memcpy(tuple.ipv6.daddr, segment->tuple.ipv6.daddr, 16);
		else
			tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = port;
	} else {
		tuple.ipv4.daddr =
		    way == INBOUND ? segment->tuple.ipv4.daddr : bpf_htonl(0x7f000001);
		tuple.ipv4.dport = port;
	}
	sk = socket_find(skb, &tuple, segment->ipv6);
	if (!sk)
		return NULL;
	if (sk->state == BPF_TCP_LISTEN)
		return sk;
	bpf_sk_release(sk);
	return NULL;
}

/* Gives the packet to the proxy's listener. Returns whether the listener got it. */
static __always_inline bool socket_give(struct __sk_buff *skb, struct segment *segment,
					enum way way)
{
	struct bpf_sock *sk = socket_listener(skb, segment, way);
	long error;

	if (!sk)
		return false;
	/* Kernels before 6.6 refuse a listener with SO_REUSEPORT. */
	error = bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return !error;
}

#endif
