/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a connection has brought about before it has a series.
 *
 * Anybody can send a SYN with any source, or an ACK to any port. If each made a series, a scan
 * would fill the maps that metricd exports. So a connection of TCP is unsettled (CONN_UNSETTLED)
 * until it has opened: by the last ACK of its handshake, or, if it is older than the programs, when
 * both ends have sent something. In a pod that has a proxy it must also be known whose the
 * connection is: see mesh/class.h. Until then its packets are held, and make no series. A
 * connection that ends before it has opened is added to a series of few: see series_unopened.
 */
#ifndef METRICD_NET_HELD_H
#define METRICD_NET_HELD_H

#include "count/series.h"

/* The number of a series that no map has. */
#define SERIES_HELD (~0U)

/* The number of the series of an unsettled connection, as conn.series has it: one of epoch 0, which
 * there never is, so that the series is looked for once the connection is settled. */
#define SERIES_UNSETTLED 0

/* Holds the packet, under the slot's lock. */
static __always_inline void held_add(struct conn *c, const struct packet *p, __u32 role)
{
	struct held *held;

	bounded(role, 1);
	held = &c->held[role];
	held->packets += p->segments;
	held->bytes += p->wire_bytes;
}

/* Have both ends of a connection that no SYN has opened taken part? So much from one end says as
 * much: the other direction may take a way that nobody looks at. */
#define HELD_ENOUGH 64 /* packets */

static __always_inline bool held_by_both(const struct conn *c)
{
	return (c->ends & END_BOTH_SPOKE) == END_BOTH_SPOKE ||
	       c->held[ROLE_CLIENT].packets + c->held[ROLE_SERVER].packets >= HELD_ENOUGH;
}

/* Takes what is held, under the slot's lock. */
static __always_inline void held_take(struct conn *c, struct held *to)
{
	to[ROLE_CLIENT] = c->held[ROLE_CLIENT];
	to[ROLE_SERVER] = c->held[ROLE_SERVER];
	__builtin_memset(c->held, 0, sizeof(c->held));
}

/* Adds what was held to the connection's series. `sent` says whether the pod has sent what the
 * client has. */
static __always_inline void held_settle(struct metric_value *v, const struct held *held, bool sent)
{
#pragma unroll
	for (int role = ROLE_CLIENT; role <= ROLE_SERVER; role++) {
		struct io_value *io = sent == (role == ROLE_CLIENT) ? &v->sent : &v->recv;

		add(&io->packets, held[role].packets);
		add(&io->bytes, held[role].bytes);
	}
	add(&v->opened, 1);
	add(&v->active, 1);
}

#endif
