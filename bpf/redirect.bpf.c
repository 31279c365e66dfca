// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Gives connections to a proxy in the pod, without NAT and without a note of each connection's
 * addresses: what the proxy's socket calls its local address is where the connection was to go.
 *
 * - Inbound, the first segment of a connection is given to the proxy's listener as it comes in. All
 *   others find the connection by themselves.
 * - Outbound, the segments of the application's socket are led to the loopback instead of out, and
 *   the first is given to the proxy's listener there, which must have IP_TRANSPARENT. Whether a
 *   socket's segments are led so is kept with the socket: it is settled when the connection begins,
 *   and ends with the socket.
 */
#include "redirect/again.h"
#include "redirect/cookie.h"
#include "redirect/original.h"

char _license[] SEC("license") = "Dual BSD/GPL";

enum verdict {
	STRAIGHT = 1,
	TO_PROXY = 2,
};

/* What becomes of the connection of an application's socket. It is told by its first sequence
 * number, as a socket can be connected again. */
struct redirect_value {
	__be32 seq;
	__u32 verdict; /* enum verdict */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct redirect_value);
} linkerd_redirect_map SEC(".maps");

/* Whether the packet is for this pod, rather than for somebody that it is a router to. */
static __always_inline bool is_local(struct __sk_buff *skb, const struct segment *segment)
{
	struct bpf_fib_lookup to = {.ifindex = skb->ingress_ifindex, .l4_protocol = IPPROTO_TCP};
	long result;

	if (segment->ipv6) {
		to.family = 10; /* AF_INET6 */
		__builtin_memcpy(to.ipv6_src, segment->tuple.ipv6.saddr, 16);
		__builtin_memcpy(to.ipv6_dst, segment->tuple.ipv6.daddr, 16);
	} else {
		to.family = 2; /* AF_INET */
		to.ipv4_src = segment->tuple.ipv4.saddr;
		to.ipv4_dst = segment->tuple.ipv4.daddr;
	}
	result = bpf_fib_lookup(skb, &to, sizeof(to), 0);
	return result == BPF_FIB_LKUP_RET_NOT_FWDED || result == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

static __always_inline bool proxy_listens(struct __sk_buff *skb, struct segment *segment,
					  enum way way)
{
	struct bpf_sock *sk = socket_listener(skb, segment, way);

	if (sk)
		bpf_sk_release(sk);
	return sk;
}

/* Gives a first segment to the proxy, unless there is a connection for it already. Returns false if
 * the proxy has not got it. */
static __always_inline bool give(struct __sk_buff *skb, struct segment *segment, enum way way)
{
	__u32 state = socket_state(skb, segment);

	if (state && state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT)
		return true;
	return socket_give(skb, segment, way);
}

static __always_inline bool is_waiting(struct __sk_buff *skb, struct segment *segment)
{
	return socket_state(skb, segment) == BPF_TCP_TIME_WAIT;
}

SEC("tc")
int linkerd_redirect_inbound(struct __sk_buff *skb)
{
	struct segment segment;

	if (!redirect_config.inbound_port || !segment_read(skb, &segment) ||
	    !(segment_is_syn(&segment) || cookie_returns(skb, &segment)) ||
	    !port_chosen(redirect_config.inbound, segment.port) ||
	    peer_skipped(&segment, INBOUND) || !is_local(skb, &segment))
		return PASS;
	if (!segment_is_syn(&segment)) {
		socket_give(skb, &segment, INBOUND);
		return PASS;
	}
	if (proxy_listens(skb, &segment, INBOUND) && is_waiting(skb, &segment) &&
	    again(skb, &segment, REDIRECT_MARK_AGAIN))
		return PASS;
	if (give(skb, &segment, INBOUND))
		return PASS;
	return redirect_config.fallback == FALLBACK_DROP ? DROP : PASS;
}

static __always_inline int to_loopback(struct __sk_buff *skb)
{
	skb->mark = REDIRECT_MARK;
	return bpf_redirect(LOOPBACK, BPF_F_INGRESS);
}

/* Settles what becomes of a connection, whose first segment this is. `sk` is the socket that has
 * sent it, or NULL. */
static __always_inline int begin(struct __sk_buff *skb, struct segment *segment,
				 struct bpf_sock *sk)
{
	struct redirect_value *value;

	/* For a packet that no socket has sent the helper says nobody (65534), which may be the
	 * proxy. */
	if (!redirect_config.outbound_port ||
	    !port_chosen(redirect_config.outbound, segment->port) ||
	    peer_skipped(segment, OUTBOUND) ||
	    (skb->sk && bpf_get_socket_uid(skb) == redirect_config.proxy_uid)) {
		/* The socket may have been connected before, to somewhere else. */
		if (sk)
			bpf_sk_storage_delete(&linkerd_redirect_map, sk);
		return PASS;
	}
	value =
	    sk ? bpf_sk_storage_get(&linkerd_redirect_map, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE)
	       : NULL;
	/* A connection whose first segment has gone out goes on there. */
	if (value && value->seq == segment->seq && value->verdict == STRAIGHT)
		return PASS;
	if (value && proxy_listens(skb, segment, OUTBOUND)) {
		value->seq = segment->seq;
		value->verdict = TO_PROXY;
		return to_loopback(skb);
	}
	if (redirect_config.fallback == FALLBACK_DROP)
		return DROP;
	if (value) {
		value->seq = segment->seq;
		value->verdict = STRAIGHT;
	}
	return PASS;
}

SEC("tc")
int linkerd_redirect_outbound(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct redirect_value *value;
	struct segment segment;

	if (!segment_read(skb, &segment))
		return PASS;
	if ((segment.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		if (redirect_config.inbound_port)
			cookie_leaves(skb, &segment);
		return PASS;
	}
	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk && (sk->protocol != IPPROTO_TCP || sk->type != 1 /* SOCK_STREAM */ ||
		   sk->state == BPF_TCP_LISTEN))
		sk = NULL;
	if (segment_is_syn(&segment))
		return begin(skb, &segment, sk);
	if (sk) {
		value = bpf_sk_storage_get(&linkerd_redirect_map, sk, NULL, 0);
		return value && value->verdict == TO_PROXY ? to_loopback(skb) : PASS;
	}
	/* The connection's socket is gone, for instance in TIME-WAIT: is the connection's peer in
	 * the pod? */
	return socket_exists(skb, &segment) ? to_loopback(skb) : PASS;
}

SEC("tc")
int linkerd_redirect_loopback(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	struct segment segment;

	if (mark != REDIRECT_MARK && mark != REDIRECT_MARK_AGAIN)
		return PASS;
	/* The packet has the MAC address of somebody outside. */
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	if (!segment_read(skb, &segment) || !segment_is_syn(&segment))
		return PASS;
	if (mark == REDIRECT_MARK_AGAIN) {
		/* Others have seen the segment where it arrived. */
		give(skb, &segment, INBOUND);
		return DONE;
	}
	/* Nobody is to see the reset; the segment will be seen when it comes again. */
	if (is_waiting(skb, &segment) && again(skb, &segment, REDIRECT_MARK))
		return DONE;
	if (give(skb, &segment, OUTBOUND))
		return PASS;
	/* The proxy has stopped listening just now. The next attempt is settled anew. */
	return DROP;
}
