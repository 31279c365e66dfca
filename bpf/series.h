/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps that metricd exports: finding an entry, making one, and `other` for
 * what does not fit.
 */
#ifndef METRICD_SERIES_H
#define METRICD_SERIES_H

#include "maps.h"

/* Templates of new entries, too large for the stack. */
static const struct metric_value zero_metric;
static const struct request_value zero_request;
static const struct latency_value zero_latency;
static const struct handshake_value zero_handshake;

/*
 * The entry of KEY, made if need be. metricd-init has made the entry of OTHER
 * before the programs were attached, and no entry is ever deleted, so that a
 * total misses nothing when the map is full (E2BIG) or there is no memory
 * (ENOMEM).
 */
#define find_or_make(MAP, KEY, ZERO, OTHER, OVERFLOW)                                              \
	({                                                                                         \
		void *value_ = bpf_map_lookup_elem(&MAP, (KEY));                                   \
		if (unlikely(!value_)) {                                                           \
			bpf_map_update_elem(&MAP, (KEY), &(ZERO), BPF_NOEXIST);                    \
			value_ = bpf_map_lookup_elem(&MAP, (KEY));                                 \
			if (!value_) {                                                             \
				count(OVERFLOW);                                                   \
				value_ = bpf_map_lookup_elem(&MAP, (OTHER));                       \
			}                                                                          \
		}                                                                                  \
		value_;                                                                            \
	})

static const struct metric_key other_metric = {.kind = SERIES_OTHER};
static const struct request_key other_request = {
    .series = {.kind = SERIES_OTHER},
    .status = STATUS_OTHER,
};
static const struct latency_key other_latency = {.kind = SERIES_OTHER};
static const struct handshake_key other_handshake = {.kind = SERIES_OTHER};

static __always_inline void copy16(void *to, const void *from)
{
	((__u64 *)to)[0] = ((__u64 *)from)[0];
	((__u64 *)to)[1] = ((__u64 *)from)[1];
}

/* The series of a connection, at the configured detail. */
static __always_inline void series_key(struct metric_key *s, const struct conn_key *k, __u8 flags)
{
	__u64 *words = (__u64 *)s;
	bool client_local = flags & CONN_CLIENT_LOCAL;
	bool outbound = client_local && k->ifindex != config.loopback_ifindex;

	words[0] = words[1] = words[2] = words[3] = words[4] = 0;
	if (unlikely(flags & CONN_OTHER)) {
		s->kind = SERIES_OTHER;
		return;
	}
	s->proto = k->proto;
	s->direction = outbound ? DIRECTION_OUTBOUND : DIRECTION_INBOUND;
	s->dst_port = client_local ? k->remote_port : k->local_port;
	if (config.detail != DETAIL_POD) {
		copy16(s->src, client_local ? k->local : k->remote);
		copy16(s->dst, client_local ? k->remote : k->local);
	}
	if (unlikely(config.detail == DETAIL_FULL))
		s->src_port = client_local ? k->local_port : k->remote_port;
}

static __always_inline struct metric_value *series_value(struct metric_key *s)
{
	return find_or_make(linkerd_metrics_map, s, zero_metric, &other_metric, metrics_overflow);
}

/* The peer's address for a histogram's key: only where --detail full asks for
 * it. */
static __always_inline void series_peer(__u8 *peer, const struct metric_key *s)
{
	if (unlikely(config.detail == DETAIL_FULL))
		copy16(peer, s->direction == DIRECTION_OUTBOUND ? s->dst : s->src);
}

static __always_inline void series_add_aborted(struct metric_value *v, __u32 reason, __u64 n)
{
	bounded(reason, 3);
	add((__u64 *)&v->aborted + reason, n);
	add(&v->in_flight, -n);
}

static __always_inline void series_add_closed(struct metric_value *v, __u32 reason)
{
	if (reason < CLOSE_MAX)
		add((__u64 *)&v->closed + reason, 1);
	add(&v->active, -1);
}

static __always_inline __u32 abort_reason(__u32 close_reason)
{
	switch (close_reason) {
	case CLOSE_FIN:
		return ABORT_FIN;
	case CLOSE_IDLE:
		return ABORT_IDLE;
	case CLOSE_EVICTED:
		return ABORT_EVICTED;
	default:
		return ABORT_RST;
	}
}

/* Adds the packet, and what it brought about, to its series. */
static __always_inline void series_add_packet(struct metric_value *v, struct packet *p)
{
	struct io_value *io = p->sent ? &v->sent : &v->recv;
	struct delta *d = &p->delta;

	add(&io->packets, p->segments);
	add(&io->bytes, p->wire_bytes);
	if (unlikely(d->retransmits))
		add(&io->retransmits, d->retransmits);
	if (d->requests | d->answered) {
		if (d->requests)
			add(&v->requests.http1, d->requests);
		if (d->requests != d->answered)
			add(&v->in_flight, (__u64)d->requests - d->answered);
		if (unlikely(d->untimed))
			add(&v->untimed, d->untimed);
	}
	if (likely(!(d->opened | d->closed | d->tls | d->lost)))
		return;
	if (d->opened) {
		add(&v->opened, d->opened);
		add(&v->active, d->opened);
	}
	if (d->tls)
		add(&v->tls, d->tls);
	if (d->lost && d->lost <= LOST_MAX)
		add((__u64 *)&v->lost + (d->lost - 1), 1);
	if (d->closed) {
		series_add_closed(v, d->closed - 1);
		if (d->aborted)
			series_add_aborted(v, abort_reason(d->closed - 1), d->aborted);
	}
}

/* Responses of one status; see enum protocol for what else there will be. */
static __always_inline void series_add_responses(struct packet *p, __u16 status, __u64 n)
{
	struct request_key key;
	struct request_value *v;

	key.series = p->series;
	if (unlikely(key.series.kind == SERIES_OTHER)) {
		key = other_request;
	} else {
		key.status = status;
		key.protocol = PROTOCOL_HTTP1;
		key.grpc_status = GRPC_STATUS_NONE;
	}
	v = find_or_make(linkerd_requests_map, &key, zero_request, &other_request,
			 requests_overflow);
	if (v)
		add(&v->responses, n);
}

#endif
