/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Under a flood of first segments the kernel answers by cookies (RFC 4987 section 3.6) and
 * remembers nothing. A segment that then finds no connection is a handshake's end, which belongs to
 * the listener that has made the cookie: the proxy's. To look for such segments costs a lookup for
 * each, so it is done only for as long as a cookie can be valid after the last one was seen to
 * leave.
 */
#ifndef REDIRECT_COOKIE_H
#define REDIRECT_COOKIE_H

#include "redirect/socket.h"

/* MAX_SYNCOOKIE_AGE of the kernel's net/tcp.h, in minutes that it rounds up. */
#define COOKIE_AGE_NS (3 * 60 * 1000000000ULL)

/* When the last cookie was seen to leave, by bpf_ktime_get_ns; 0 if none was. */
static volatile __u64 cookie_seen;

/* Looks at a SYN-ACK that leaves. It has a cookie if the kernel knows no connection that it
 * answers. */
static __always_inline void cookie_leaves(struct __sk_buff *skb, const struct segment *segment)
{
	struct segment back = {.ipv6 = segment->ipv6};
	__u32 state;

	if (segment->ipv6) {
		__builtin_memcpy(back.tuple.ipv6.saddr, segment->tuple.ipv6.daddr, 16);
		__builtin_memcpy(back.tuple.ipv6.daddr, segment->tuple.ipv6.saddr, 16);
		back.tuple.ipv6.sport = segment->tuple.ipv6.dport;
		back.tuple.ipv6.dport = segment->tuple.ipv6.sport;
	} else {
		back.tuple.ipv4.saddr = segment->tuple.ipv4.daddr;
		back.tuple.ipv4.daddr = segment->tuple.ipv4.saddr;
		back.tuple.ipv4.sport = segment->tuple.ipv4.dport;
		back.tuple.ipv4.dport = segment->tuple.ipv4.sport;
	}
	state = socket_state(skb, &back);
	if (!state || state == BPF_TCP_LISTEN)
		cookie_seen = bpf_ktime_get_ns();
}

/* Whether the segment may be the end of a handshake by cookies. */
static __always_inline bool cookie_returns(struct __sk_buff *skb, struct segment *segment)
{
	__u64 seen = cookie_seen;
	__u32 state;

	if (!seen || (segment->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK ||
	    bpf_ktime_get_ns() - seen > COOKIE_AGE_NS)
		return false;
	state = socket_state(skb, segment);
	return !state || state == BPF_TCP_LISTEN;
}

#endif
