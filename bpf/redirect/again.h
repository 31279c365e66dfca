/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A connection that follows another from the same addresses and ports, whose end here still waits
 * for stray segments (TIME-WAIT, RFC 9293 section 3.6.1). Newer kernels take no first segment past
 * the waiting end. If the segment gets there, they make room for the new connection, but look for
 * its listener at the port that the client has named. So the segment is sent again, by the
 * loopback, and in its place goes a reset, which ends the waiting unless net.ipv4.tcp_rfc1337
 * forbids that (RFC 1337 is why it could).
 */
#ifndef REDIRECT_AGAIN_H
#define REDIRECT_AGAIN_H

#include "redirect/socket.h"

/* Structs of the kernel, as far as they are read: their own layout is looked up at load. */
#define KERNELS __attribute__((preserve_access_index))

struct sock_common {
	__u32 skc_tw_rcv_nxt;
} KERNELS;

struct inet_timewait_sock {
	struct sock_common __tw_common;
} KERNELS;

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
} KERNELS;

/* Finds the sequence number that the segment's socket expects. Returns false if the socket is not
 * in TIME-WAIT. */
static __always_inline bool again_expects(struct __sk_buff *skb, struct segment *segment,
					  __u32 *seq)
{
	struct tcp_timewait_sock *waiting;
	struct bpf_sock *sk;

	sk = socket_find(skb, &segment->tuple, segment->ipv6);
	if (!sk)
		return false;
	waiting = (void *)bpf_skc_to_tcp_timewait_sock(sk);
	if (waiting)
		*seq = waiting->tw_sk.__tw_common.skc_tw_rcv_nxt;
	bpf_sk_release(sk);
	return waiting;
}

/* Sends the segment again, by the loopback and with `mark`, and makes the packet at hand the reset.
 * Returns false if that failed. */
static __always_inline bool again(struct __sk_buff *skb, struct segment *segment, __u32 mark)
{
	__be32 seq;
	__u32 expected, before = skb->mark;
	__be16 was, is;

	if (!again_expects(skb, segment, &expected))
		return false;
	skb->mark = mark;
	if (bpf_clone_redirect(skb, LOOPBACK, BPF_F_INGRESS)) {
		skb->mark = before;
		return false;
	}
	skb->mark = before;
	seq = bpf_htonl(expected);
	if (bpf_skb_load_bytes(skb, segment->l4 + 12, &was, sizeof(was)))
		return false;
	is = (was & bpf_htons(0xf000)) | bpf_htons(TCP_RST);
	bpf_l4_csum_replace(skb, segment->l4 + 16, segment->seq, seq, sizeof(seq));
	bpf_l4_csum_replace(skb, segment->l4 + 16, was, is, sizeof(is));
	bpf_skb_store_bytes(skb, segment->l4 + 4, &seq, sizeof(seq), 0);
	bpf_skb_store_bytes(skb, segment->l4 + 12, &is, sizeof(is), 0);
	return true;
}

#endif
