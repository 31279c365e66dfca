/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How connections begin in a pod that has a proxy: whose they are (mesh/class.h) is found out by
 * the users of the sockets at their ends, which show when they send.
 *
 * On eth0 the pod's end tells: at the SYN of an outbound connection, and at the SYN-ACK of an
 * inbound one. On the loopback both ends tell, and every packet passes both hooks. The egress hook,
 * where a packet still has its socket, opens the connection and notes what its ends tell, and
 * counts nothing. The ingress hook counts.
 *
 * A connection is unsettled until its ends have told, and it has opened: net/held.h.
 */
#ifndef METRICD_MESH_MESH_H
#define METRICD_MESH_MESH_H

#include "mesh/translated.h"
#include "net/conn_open.h"
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

/* Notes what the packet tells of the ends of its connection, which is unsettled, and whether no
 * other packet will tell more. */
static __always_inline void mesh_tell(struct packet *p, struct conn *c, __u16 ends)
{
	bool loopback = conn_is_loopback(&p->key), whole, last;
	__u32 role = tcp_role(p, c->brief.flags);
	__u16 all;

	/* A SYN-ACK with a cookie has no socket, but what the pod sends after it has one. What is
	 * forwarded never has. */
	last = (p->tcp_flags & TCP_RST) ||
	       (!(p->tcp_flags & TCP_SYN) &&
		(loopback ? role == ROLE_CLIENT && !(c->brief.flags & CONN_ADOPTED) : p->egress));
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == p->generation) {
		all = c->ends | ends;
		if (loopback)
			whole = (all & END_REDIRECTED) ||
				((all & END_KNOWN(ROLE_CLIENT)) && (all & END_KNOWN(ROLE_SERVER)));
		else
			whole = all & (END_KNOWN(ROLE_CLIENT) | END_KNOWN(ROLE_SERVER));
		c->ends = whole || last ? all | END_TOLD : all;
	}
	bpf_spin_unlock(&c->lock);
}

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
		return CONN_NONE;
	p = &s->packet;
	if (translated_find(skb) == TRANSLATED_CLIENT) {
		flags |= CONN_TRANSLATED;
		/* The ports may have led somewhere else before. */
		found = bpf_map_lookup_elem(&linkerd_connection_index_map, &s->as_sent);
		slot = found ? found->slot : NO_SLOT;
		c = conn_slot(slot);
		if (c && !conn_key_equal(&c->key, &p->key) && conn_replace(skb, slot))
			return CONN_NONE;
	}
	c = conn_find(p);
	if (c && (conn_again(p, c) || conn_replace(skb, p->slot)))
		return CONN_FOUND;
	if (!p->to_local)
		flags |= CONN_CLIENT_LOCAL;
	p->ends = mesh_ends(skb, p, ROLE_CLIENT);
	return CONN_OPENS | flags;
}

/* Looks whose connection another packet that leaves by the loopback belongs to, and notes
 * what it tells. `found` says whether the packet's slot has it. */
__noinline int mesh_loopback_goes_on(struct __sk_buff *skb, __u32 found)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	int translated;
	__u8 flags;

	if (!s || !skb->len)
		return CONN_NONE;
	p = &s->packet;
	if (found) {
		c = conn_slot(p->slot);
		if (!c)
			return CONN_NONE;
		translated_settle(p, c);
		mesh_tell(p, c, mesh_ends(skb, p, tcp_role(p, c->brief.flags)));
		return CONN_FOUND;
	}
	if (!packet_opens(p))
		return CONN_NONE;
	translated = translated_find(skb);
	flags = conn_flags(skb, p);
	if (translated != TRANSLATED_NOT) {
		bool client_local = (translated == TRANSLATED_CLIENT) != !!p->to_local;

		flags = CONN_ADOPTED | CONN_UNSETTLED | CONN_TRANSLATED |
			(client_local ? CONN_CLIENT_LOCAL : 0);
	}
	p->ends = mesh_ends(skb, p, tcp_role(p, flags));
	return CONN_OPENS | flags;
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
	    !conn_replace(skb, s->packet.slot))
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
	if ((what & CONN_OPENS) && !conn_open(skb, what & 0xff) && (what & CONN_TRANSLATED))
		mesh_index(skb);
	return 0;
}

/* With which flags the packet's connection is to be opened. */
static __always_inline int mesh_begin(struct __sk_buff *skb, struct packet *p)
{
	__u8 flags = conn_flags(skb, p);

	if (conn_is_loopback(&p->key)) {
		/* What has not passed the egress hook has been led here by redirection. */
		if (skb->mark != REDIRECT_MARK)
			return CONN_NONE;
		flags =
		    (p->to_local ? 0 : CONN_CLIENT_LOCAL) | (flags & CONN_ADOPTED) | CONN_UNSETTLED;
		p->ends = END_REDIRECTED | END_TOLD;
	} else if (p->egress) {
		p->ends = mesh_ends(skb, p, tcp_role(p, flags)) | END_TOLD;
	}
	return CONN_OPENS | flags;
}

/*
 * For the packets that begin a connection, and those of a connection that is unsettled: finds the
 * connection, and notes what the packet tells. `found` says whether the packet's slot has
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
		return CONN_NONE;
	p = &s->packet;
	p->ends = 0;
	redirected = conn_is_loopback(&p->key) && skb->mark == REDIRECT_MARK;
	if (!found)
		return packet_opens(p) ? mesh_begin(skb, p) : CONN_NONE;
	c = conn_slot(p->slot);
	if (!c)
		return CONN_NONE;
	if (packet_is_syn(p)) {
		if ((conn_is_loopback(&p->key) && !redirected) || conn_again(p, c) ||
		    conn_replace(skb, p->slot))
			return CONN_FOUND;
		return mesh_begin(skb, p);
	}
	if (!(c->brief.flags & CONN_UNSETTLED))
		return CONN_FOUND;
	if (redirected) {
		ends = END_REDIRECTED;
	} else {
		/* The egress hook has told already. */
		if (conn_is_loopback(&p->key))
			return CONN_FOUND;
		ends = mesh_ends(skb, p, tcp_role(p, c->brief.flags));
	}
	mesh_tell(p, c, ends);
	return CONN_FOUND;
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
	if (what & CONN_OPENS)
		return conn_open(skb, what & 0xff);
	return what == CONN_FOUND ? 0 : -1;
}

#endif
