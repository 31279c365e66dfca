/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A connection that follows another from the same addresses and ports, whose end here still waits
 * for stray segments. Its first segment must get to that socket, which makes room for it (RFC 9293
 * section 3.6.1), so it can't be given away. The kernel then looks for a listener, and asks
 * linkerd_redirect_listener: which does what is noted for the segment that this CPU is at.
 */
#ifndef REDIRECT_FOLLOW_H
#define REDIRECT_FOLLOW_H

#include "socket.h"

struct redirect_note {
	struct bpf_sock_tuple tuple;
	__u32 way; /* enum way, or 0: nothing is noted */
	__u32 ipv6;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct redirect_note);
} linkerd_redirect_note_map SEC(".maps");

/* The proxy's listeners, by enum way. The kernel removes those that close. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, OUTBOUND + 1);
	__type(key, __u32);
	__type(value, __u64);
} linkerd_redirect_listeners_map SEC(".maps");

/* Lets the kernel find the proxy's listener for the segment. Returns whether there is one. */
static __always_inline bool follow(struct __sk_buff *skb, struct segment *s, enum way way)
{
	struct bpf_sock *sk = socket_listener(skb, s, way);
	__u32 zero = 0, key = way;
	struct redirect_note *note;
	long error;

	if (!sk)
		return false;
	error = bpf_map_update_elem(&linkerd_redirect_listeners_map, &key, sk, BPF_ANY);
	bpf_sk_release(sk);
	note = bpf_map_lookup_elem(&linkerd_redirect_note_map, &zero);
	if (error || !note)
		return false;
	note->tuple = s->tuple;
	note->ipv6 = s->ipv6;
	note->way = way;
	return true;
}

static __always_inline bool is_noted(const struct redirect_note *note, struct bpf_sk_lookup *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return false;
	if (note->ipv6)
		return ctx->remote_ip6[0] == note->tuple.ipv6.saddr[0] &&
		       ctx->remote_ip6[1] == note->tuple.ipv6.saddr[1] &&
		       ctx->remote_ip6[2] == note->tuple.ipv6.saddr[2] &&
		       ctx->remote_ip6[3] == note->tuple.ipv6.saddr[3] &&
		       ctx->local_ip6[0] == note->tuple.ipv6.daddr[0] &&
		       ctx->local_ip6[1] == note->tuple.ipv6.daddr[1] &&
		       ctx->local_ip6[2] == note->tuple.ipv6.daddr[2] &&
		       ctx->local_ip6[3] == note->tuple.ipv6.daddr[3] &&
		       ctx->local_port == bpf_ntohs(note->tuple.ipv6.dport);
	return ctx->remote_ip4 == note->tuple.ipv4.saddr &&
	       ctx->local_ip4 == note->tuple.ipv4.daddr &&
	       ctx->local_port == bpf_ntohs(note->tuple.ipv4.dport);
}

SEC("sk_lookup")
int linkerd_redirect_listener(struct bpf_sk_lookup *ctx)
{
	struct redirect_note *note;
	struct bpf_sock *sk;
	__u32 zero = 0, way;

	note = bpf_map_lookup_elem(&linkerd_redirect_note_map, &zero);
	if (!note || !note->way || !is_noted(note, ctx))
		return SK_PASS;
	way = note->way;
	note->way = 0;
	sk = bpf_map_lookup_elem(&linkerd_redirect_listeners_map, &way);
	if (sk) {
		bpf_sk_assign(ctx, sk, 0);
		bpf_sk_release(sk);
	}
	return SK_PASS;
}

#endif
