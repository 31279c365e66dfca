/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How connections begin in a pod that has a proxy: whose they are (mesh/class.h) is found out by
 * the users of the sockets at their ends, which show when they send.
 *
 * On eth0 the pod's end tells: at the SYN of an outbound connection, and at the SYN-ACK of an
 * inbound one. On the loopback both ends tell, and every packet passes both hooks. The egress hook,
 * where a packet still has its socket, opens and settles the connection, and counts nothing. The
 * ingress hook counts.
 *
 * A connection is unsettled until its ends have told, and has no series: its packets are held.
 */
#ifndef METRICD_MESH_MESH_H
#define METRICD_MESH_MESH_H

#include "mesh/translated.h"
#include "net/tcp.h"
#include "redirect/mark.h"

/* Is it a packet of TCP, whose connection mesh_conn finds? */
static __always_inline bool mesh_is_for(const struct packet *p)
{
	return config.mesh && p->key.proto == IPPROTO_TCP && !p->fragment;
}

/* What the socket that sends the packet tells of the role's end: END_…, or 0. A reset may be sent
 * by a socket of the kernel's. */
static __always_inline __u16 mesh_ends(struct __sk_buff *skb, const struct packet *p, __u32 role)
{
	__u16 ends;

	if (!p->egress || (p->tcp_flags & TCP_RST) || !skb->sk)
		return 0;
	ends = role == ROLE_CLIENT ? END_KNOWN(ROLE_CLIENT) : END_KNOWN(ROLE_SERVER);
	if (bpf_get_socket_uid(skb) == config.proxy_uid)
		ends |= role == ROLE_CLIENT ? END_PROXY(ROLE_CLIENT) : END_PROXY(ROLE_SERVER);
	return ends;
}

/*
 * Settles the packet's connection by what is known of its ends, and adds what was held to its
 * series. If that is `late`, bytes may have passed that were not followed, so none will be: which
 * is a loss, unless the connection is the proxy's. Returns 0 if this call has settled it.
 */
__noinline int mesh_settle(struct __sk_buff *skb, __u32 late)
{
	struct scratch *s = scratch();
	struct metric_value *v;
	struct packet *p;
	struct conn *c;
	bool settled = false;

	if (!s || !skb->len)
		return -1;
	p = &s->packet;
	c = conn_slot(p->slot);
	if (!c)
		return -1;
	bpf_spin_lock(&c->lock);
	p->flags = c->brief.flags;
	if (c->brief.generation == p->generation && (p->flags & CONN_UNSETTLED) &&
	    (c->brief.state == SLOT_LIVE || c->brief.state == SLOT_CLOSED)) {
		settled = true;
		p->flags = mesh_settled(p->flags, c->ends, conn_is_loopback(&p->key));
		c->brief.flags = p->flags;
		if (late)
			c->brief.l7 = L7_OPAQUE;
		c->ends = 0;
		held_take(c, s->held);
		c->series = SERIES_UNSETTLED;
	}
	bpf_spin_unlock(&c->lock);
	if (!settled)
		return -1;
	v = series_value(conn_series(skb));
	if (!v)
		return 0;
	held_settle(v, s->held, conn_client_sends(&p->key, p->flags), p->flags);
	if (late && !mesh_is_proxys(p->flags) && !(p->flags & CONN_ADOPTED))
		add(&v->lost.midstream, 1);
	return 0;
}

/* Notes what the packet tells of the ends of its connection, which is unsettled, and settles it if
 * no other packet will tell more. */
static __always_inline void mesh_tell(struct __sk_buff *skb, struct packet *p, struct conn *c,
				      __u16 ends)
{
	bool loopback = conn_is_loopback(&p->key), whole, last;
	__u32 role = tcp_role(p, c->brief.flags);
	__u16 all;

	bpf_spin_lock(&c->lock);
	if (c->brief.generation == p->generation)
		c->ends |= ends;
	all = c->ends;
	bpf_spin_unlock(&c->lock);
	if (loopback)
		whole = (all & END_REDIRECTED) ||
			((all & END_KNOWN(ROLE_CLIENT)) && (all & END_KNOWN(ROLE_SERVER)));
	else
		whole = all & (END_KNOWN(ROLE_CLIENT) | END_KNOWN(ROLE_SERVER));
	/* A SYN-ACK with a cookie has no socket, but what the pod sends after it has one. What is
	 * forwarded never has. */
	last = (p->tcp_flags & TCP_RST) ||
	       (!(p->tcp_flags & TCP_SYN) &&
		(loopback ? role == ROLE_CLIENT && !(c->brief.flags & CONN_ADOPTED) : p->egress));
	if (whole || last)
		mesh_settle(skb, !loopback && !(p->tcp_flags & (TCP_SYN | TCP_RST)));
}

/* Is the SYN the one that has opened the connection, sent again? */
static __always_inline bool mesh_again(const struct packet *p, const struct conn *c)
{
	const struct side *client = &c->client;

	if (c->brief.generation != p->generation || c->brief.state != SLOT_LIVE)
		return false;
	if (!(c->brief.seen & SEEN_SYN))
		return !(c->brief.flags & CONN_ADOPTED);
	return tcp_role(p, c->brief.flags) == ROLE_CLIENT &&
	       client->end.generation == p->generation && client->end.seq == p->seq + 1;
}

/* Ends the connection in the packet's slot, which another one is to follow. Returns 0 if it is
 * gone.
 */
static __always_inline int mesh_end(struct __sk_buff *skb, __u32 slot)
{
	if (conn_retire(skb, slot, CLOSE_IDLE, ANY_GENERATION))
		return -1;
	conn_free_slot(slot);
	return 0;
}

/* What the functions below return: the packet's slot has the connection, there is none to be had,
 * or it is to be opened with the flags in the lower byte. They don't open it themselves, because
 * that takes as much of the stack as there is. */
#define MESH_FOUND 0
#define MESH_NONE 0x100
#define MESH_OPENS 0x200

/* Looks whose connection a SYN that leaves by the loopback begins. */
__noinline int mesh_loopback_syn(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	union conn_ref *found;
	struct packet *p;
	struct conn *c;
	__u8 flags = CONN_UNSETTLED;
	__u32 slot;

	if (!s || !skb->len)
		return MESH_NONE;
	p = &s->packet;
	if (translated_find(skb) == TRANSLATED_CLIENT) {
		flags |= CONN_TRANSLATED;
		/* The ports may have led somewhere else before. */
		found = bpf_map_lookup_elem(&linkerd_connection_index_map, &s->as_sent);
		slot = found ? found->slot : NO_SLOT;
		c = conn_slot(slot);
		if (c && !conn_key_equal(&c->key, &p->key) && mesh_end(skb, slot))
			return MESH_NONE;
	}
	c = conn_find(p);
	if (c && (mesh_again(p, c) || mesh_end(skb, p->slot)))
		return MESH_FOUND;
	if (!p->to_local)
		flags |= CONN_CLIENT_LOCAL;
	p->ends = mesh_ends(skb, p, ROLE_CLIENT);
	return MESH_OPENS | flags;
}

/* Looks whose connection another packet that leaves by the loopback belongs to, and settles it.
 * `found` says whether the packet's slot has it. */
__noinline int mesh_loopback_goes_on(struct __sk_buff *skb, __u32 found)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	int translated;
	__u8 flags;

	if (!s || !skb->len)
		return MESH_NONE;
	p = &s->packet;
	if (found) {
		c = conn_slot(p->slot);
		if (!c)
			return MESH_NONE;
		translated_settle(p, c);
		mesh_tell(skb, p, c, mesh_ends(skb, p, tcp_role(p, c->brief.flags)));
		return MESH_FOUND;
	}
	if (!packet_opens(p))
		return MESH_NONE;
	translated = translated_find(skb);
	flags = conn_flags(p) | CONN_UNSETTLED;
	if (translated != TRANSLATED_NOT) {
		bool client_local = (translated == TRANSLATED_CLIENT) != !!p->to_local;

		flags = CONN_ADOPTED | CONN_UNSETTLED | CONN_TRANSLATED |
			(client_local ? CONN_CLIENT_LOCAL : 0);
	}
	p->ends = mesh_ends(skb, p, tcp_role(p, flags));
	return MESH_OPENS | flags;
}

/* Lets the packet's connection be found by the key of the client's packets as well. */
__noinline int mesh_index(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	union conn_ref ref;

	if (!s || !skb->len)
		return 0;
	ref.slot = s->packet.slot;
	ref.generation = s->packet.generation;
	if (bpf_map_update_elem(&linkerd_connection_index_map, &s->as_sent, &ref, BPF_ANY) &&
	    !mesh_end(skb, s->packet.slot))
		counters_add(untracked);
	return 0;
}

/* Reads a packet that leaves by the loopback. Returns 0 if it is one of TCP. */
__noinline int mesh_loopback_read(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;

	if (!s || !skb->len)
		return -1;
	p = &s->packet;
	p->egress = true;
	p->now = 0;
	__builtin_memset(&p->delta, 0, sizeof(p->delta));
	if (!packet_direct(skb, p))
		packet_any(skb);
	p->jiffies = bpf_jiffies64();
	return p->kind == SERIES_IP && mesh_is_for(p) ? 0 : -1;
}

/* A packet that leaves by the loopback: nothing is counted here. */
__noinline int mesh_loopback(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	int what;

	if (!s || !skb->len || mesh_loopback_read(skb))
		return 0;
	p = &s->packet;
	if (packet_is_syn(p)) {
		what = mesh_loopback_syn(skb);
	} else {
		c = conn_find(p);
		if (likely(c && !(READ_ONCE(c->brief.flags) & CONN_UNSETTLED)))
			return 0;
		what = mesh_loopback_goes_on(skb, !!c);
	}
	if ((what & MESH_OPENS) && !conn_open(skb, what & 0xff) && (what & CONN_TRANSLATED))
		mesh_index(skb);
	return 0;
}

/* With which flags the packet's connection is to be opened. */
static __always_inline int mesh_begin(struct __sk_buff *skb, struct packet *p)
{
	__u8 flags = conn_flags(p);

	if (conn_is_loopback(&p->key)) {
		/* What has not passed the egress hook has been led here by redirection. */
		if (skb->mark != REDIRECT_MARK)
			return MESH_NONE;
		flags = (p->to_local ? 0 : CONN_CLIENT_LOCAL) | (flags & CONN_ADOPTED);
		flags = mesh_settled(flags, END_REDIRECTED, true);
	} else if (p->egress) {
		flags = mesh_settled(flags, mesh_ends(skb, p, tcp_role(p, flags)), false);
	} else {
		flags |= CONN_UNSETTLED;
	}
	return MESH_OPENS | flags;
}

/*
 * For the packets that begin a connection, and those of a connection that is unsettled: finds the
 * connection, and settles it as far as the packet tells. `found` says whether the packet's slot has
 * it already.
 */
__noinline int mesh_packet(struct __sk_buff *skb, __u32 found)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	bool redirected;
	__u16 ends;

	if (!s || !skb->len)
		return MESH_NONE;
	p = &s->packet;
	p->ends = 0;
	redirected = conn_is_loopback(&p->key) && skb->mark == REDIRECT_MARK;
	if (!found)
		return packet_opens(p) ? mesh_begin(skb, p) : MESH_NONE;
	c = conn_slot(p->slot);
	if (!c)
		return MESH_NONE;
	if (packet_is_syn(p)) {
		if ((conn_is_loopback(&p->key) && !redirected) || mesh_again(p, c) ||
		    mesh_end(skb, p->slot))
			return MESH_FOUND;
		return mesh_begin(skb, p);
	}
	if (!(c->brief.flags & CONN_UNSETTLED))
		return MESH_FOUND;
	if (redirected) {
		ends = END_REDIRECTED;
	} else {
		/* The egress hook has told already. */
		if (conn_is_loopback(&p->key))
			return MESH_FOUND;
		ends = mesh_ends(skb, p, tcp_role(p, c->brief.flags));
	}
	mesh_tell(skb, p, c, ends);
	return MESH_FOUND;
}

/* Finds or opens the connection of a packet of TCP. Returns 0 if the packet's slot has it. */
__noinline int mesh_conn(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	int what;

	if (!s || !skb->len)
		return -1;
	p = &s->packet;
	c = conn_find(p);
	if (c && unlikely(READ_ONCE(c->brief.flags) & CONN_TRANSLATED))
		translated_settle(p, c);
	if (likely(c && !(p->tcp_flags & TCP_SYN) && !(READ_ONCE(c->brief.flags) & CONN_UNSETTLED)))
		return 0;
	what = mesh_packet(skb, !!c);
	if (what & MESH_OPENS)
		return conn_open(skb, what & 0xff);
	return what == MESH_FOUND ? 0 : -1;
}

#endif
