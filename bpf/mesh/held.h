/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an unsettled connection has brought about, before it has a series to be added to. In a pod
 * that has a proxy a connection is settled when both of its ends have shown whose they are, mostly
 * at the SYN-ACK.
 */
#ifndef METRICD_MESH_HELD_H
#define METRICD_MESH_HELD_H

#include "count/series.h"

/* The number of a series that no map has. */
#define SERIES_HELD (~0U)

/* The number of the series of an unsettled connection, as conn.series has it: one of epoch 0, which
 * there never is, so that the series is looked for once the connection is settled. */
#define SERIES_UNSETTLED 0

/* Holds the packet, under the slot's lock. */
static __always_inline void held_add(struct conn *c, struct packet *p, __u32 role)
{
	struct held *held;

	bounded(role, 1);
	held = &c->held[role];
	held->packets += p->segments;
	held->bytes += p->wire_bytes;
	held->retransmits += p->delta.retransmits;
	p->delta.retransmits = 0;
}

/* Takes what is held, under the slot's lock. */
static __always_inline void held_take(struct conn *c, struct held *to)
{
	to[ROLE_CLIENT] = c->held[ROLE_CLIENT];
	to[ROLE_SERVER] = c->held[ROLE_SERVER];
	__builtin_memset(c->held, 0, sizeof(c->held));
}

/* Adds what was held to the series of a connection that is settled by now. `sent` says whether the
 * pod has sent what the client has. */
static __always_inline void held_settle(struct metric_value *v, const struct held *held, bool sent,
					__u8 flags)
{
#pragma unroll
	for (int role = ROLE_CLIENT; role <= ROLE_SERVER; role++) {
		struct io_value *io = sent == (role == ROLE_CLIENT) ? &v->sent : &v->recv;

		add(&io->packets, held[role].packets);
		add(&io->bytes, held[role].bytes);
		add(&io->retransmits, held[role].retransmits);
	}
	add(&v->opened, 1);
	add(&v->active, 1);
	if (flags & CONN_ADOPTED)
		add(&v->lost.midstream, 1);
}

#endif
