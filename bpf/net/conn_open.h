/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a connection begins with a packet, and how it comes into the table. */
#ifndef METRICD_NET_CONN_OPEN_H
#define METRICD_NET_CONN_OPEN_H

#include "net/client.h"
#include "net/conn_slots.h"

/* The flags of a connection that begins with this packet. */
static __always_inline __u8 conn_flags(struct __sk_buff *skb, const struct packet *p)
{
	__u8 class = mesh_class_untold(&p->key);

	if (p->key.proto == IPPROTO_TCP && !p->fragment) {
		class |= CONN_UNSETTLED;
		if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
			return (p->to_local ? CONN_CLIENT_LOCAL : 0) | CONN_ADOPTED | class;
		if (!(p->tcp_flags & TCP_SYN))
			return (client_is_local(skb) ? CONN_CLIENT_LOCAL : 0) | CONN_ADOPTED |
			       class;
	} else if (p->key.proto == IPPROTO_TCP) {
		class |= CONN_UNSETTLED;
	} else if (p->key.proto == IPPROTO_UDP && p->to_local &&
		   !client_socket(skb, SOCKET_DATAGRAM, false)) {
		/* Nobody is there, unless the datagram is to be forwarded. */
		class |= CONN_UNSETTLED;
	}
	return (p->to_local ? 0 : CONN_CLIENT_LOCAL) | class;
}

/* Is the SYN the one that has opened the connection, sent again? */
static __always_inline bool conn_again(const struct packet *p, const struct conn *c)
{
	const struct side *client = &c->client;

	if (c->brief.generation != p->generation || c->brief.state != SLOT_LIVE)
		return false;
	/* Both ends may begin at once (RFC 9293 section 3.5). */
	if (tcp_role(p, c->brief.flags) != ROLE_CLIENT)
		return true;
	if (c->brief.flags & CONN_ADOPTED)
		return client->end.generation != p->generation ||
		       !seq_before(client->end.seq, p->seq);
	return p->seq == c->isn;
}

/* Adds a connection to the end of a list. Returns whether the list was full, and so has lost the
 * oldest one to the caller. */
static __always_inline bool conn_list(void *list, const union conn_ref *ref, union conn_ref *oldest)
{
	if (!bpf_map_push_elem(list, ref, 0) || bpf_map_pop_elem(list, oldest))
		return false;
	bpf_map_push_elem(list, ref, 0);
	return true;
}

/* Ends a connection that has to go: idle, if it was over its time. */
static __always_inline int conn_give_up(struct __sk_buff *skb, const union conn_ref *ref)
{
	bool is_idle = conn_sweep(ref->slot) == SWEEP_IDLE;

	return conn_end(skb, ref->slot, is_idle ? CLOSE_IDLE : CLOSE_EVICTED, ref->generation);
}

#define CONN_FLOWS_PASSED 4
#define CONN_FLOW_SILENT 256 /* jiffies: a quarter of a second, or more */

/* Have both ends of a flow been silent? */
static __always_inline bool conn_flow_is_silent(struct conn *c, const struct packet *p)
{
	return conn_silent(c, ROLE_CLIENT, p->jiffies) >= CONN_FLOW_SILENT &&
	       conn_silent(c, ROLE_SERVER, p->jiffies) >= CONN_FLOW_SILENT;
}

/* Is it a flow of another protocol than TCP that may be over its time? */
static __always_inline bool conn_may_be_over(struct conn *c, const struct packet *p)
{
	return p->key.proto != IPPROTO_TCP && conn_flow_is_silent(c, p);
}

/*
 * Notes the new connection of the packet among those that may take only a share of the slots: those
 * that have not opened, and flows of other protocols than TCP. The oldest one has to go if there
 * are too many; of flows the oldest one that is silent now.
 */
__noinline int conn_bound(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	union conn_ref ref, oldest;
	struct packet *p;
	struct conn *c;
	union brief b;

	if (!s || !skb->len)
		return 0;
	p = &s->packet;
	ref.slot = p->slot;
	ref.generation = p->generation;
	if (p->key.proto == IPPROTO_TCP) {
		if (!conn_list(&linkerd_half_open_map, &ref, &oldest))
			return 0;
		c = conn_slot(oldest.slot);
		if (!c)
			return 0;
		b.word = READ_ONCE(c->brief.word);
		if (b.generation == oldest.generation && (b.flags & CONN_UNSETTLED))
			conn_give_up(skb, &oldest);
		return 0;
	}
	for (int i = 0; i < CONN_FLOWS_PASSED; i++) {
		if (!conn_list(&linkerd_flow_map, &ref, &oldest))
			return 0;
		c = conn_slot(oldest.slot);
		if (!c || i == CONN_FLOWS_PASSED - 1 ||
		    READ_ONCE(c->brief.generation) != oldest.generation ||
		    conn_flow_is_silent(c, p))
			break;
		/* Later, when it is the oldest one again. */
		ref = oldest;
	}
	conn_give_up(skb, &oldest);
	return 0;
}

/*
 * Opens the packet's connection, with these flags (CONN_…). Returns 0 with the slot in the packet,
 * or -1 if there is none to be had.
 */
__noinline int conn_open(struct __sk_buff *skb, __u32 flags)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;
	union conn_ref ref;
	__u32 slot;

	if (!s)
		return -1;
	p = &s->packet;
	packet_now(p);
	slot = conn_take(skb);
	c = conn_slot(slot);
	if (!c) {
		counters_add(untracked);
		return -1;
	}
	conn_key_copy(&c->key, &p->key);
	/* Settled now, for good: gauges must come down where they went up. */
	p->flags = flags;
	c->series = flags & CONN_UNSETTLED ? SERIES_UNSETTLED : epoch_tag(series_find(skb, 0));
	conn_begin(c, p, flags);
	if (config.mesh && (flags & CONN_TRANSLATED))
		conn_key_copy(&c->as_sent, &s->as_sent);
	/* Never 0, which is what words of no generation have. */
	if (!++c->brief.generation)
		c->brief.generation = 1;
	ref.slot = slot;
	ref.generation = c->brief.generation;
	if (!bpf_map_update_elem(&linkerd_connection_index_map, &p->key, &ref, BPF_NOEXIST)) {
		/* A CPU that finds the connection before this takes it for untracked. */
		WRITE_ONCE(c->brief.state, SLOT_LIVE);
		p->slot = slot;
		p->generation = ref.generation;
		conn_bound(skb);
		return 0;
	}
	/* Another CPU was faster, or there is no memory. */
	p->delta.opened = 0;
	conn_free_slot(slot);
	if (conn_find(p))
		return 0;
	counters_add(untracked);
	return -1;
}

/* What the functions that look for a packet's connection return: the packet's slot has it, there is
 * none to be had, or it is to be opened with the flags in the lower byte. They don't open it
 * themselves, because that takes as much of the stack as there is. */
#define CONN_FOUND 0
#define CONN_NONE 0x100
#define CONN_OPENS 0x200

/* For the packets that may begin a connection: finds out whether this one does. `found` says
 * whether the packet's slot has a connection with its key. */
__noinline int conn_opening(struct __sk_buff *skb, __u32 found)
{
	struct scratch *s = scratch();
	struct packet *p;
	struct conn *c;

	if (!s || !skb->len)
		return CONN_NONE;
	p = &s->packet;
	p->ends = 0;
	if (found) {
		c = conn_slot(p->slot);
		if (!c)
			return CONN_NONE;
		if (p->key.proto != IPPROTO_TCP) {
			/* metricd shows it as ended once it is over its time: see seen_ns. */
			if (conn_sweep(p->slot) != SWEEP_IDLE || conn_replace(skb, p->slot))
				return CONN_FOUND;
		} else if (p->fragment || !packet_is_syn(p) || conn_again(p, c) ||
			   conn_replace(skb, p->slot)) {
			return CONN_FOUND;
		}
	} else if (!packet_opens(p)) {
		return CONN_NONE;
	}
	return CONN_OPENS | conn_flags(skb, p);
}

/* Opens the packet's connection, if it begins with the packet. Returns 0 if the packet's slot has
 * the connection. */
__noinline int conn_new(struct __sk_buff *skb, __u32 found)
{
	int what = conn_opening(skb, found);

	if (what & CONN_OPENS)
		return conn_open(skb, what & 0xff);
	return what == CONN_FOUND ? 0 : -1;
}

#endif
