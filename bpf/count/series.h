/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps that metricd exports: finding an element, making one, and `other` for what does not fit.
 */
#ifndef METRICD_COUNT_SERIES_H
#define METRICD_COUNT_SERIES_H

#include "count/ports.h"
#include "layout/check.h"
#include "mesh/class.h"

/* Element 0 of each array. metricd-init has made it before the programs are attached. */
#define ELEMENT_OTHER 0
#define ELEMENT_OTHER_REQUESTS 1 /* of linkerd_requests_map: STATUS_REQUESTS */

/*
 * The maps that metricd exports can be replaced while connections last: by larger ones, or ones of
 * another layout. Each set of them is an epoch. The maps of an earlier epoch stay as they are, and
 * metricd adds up what all epochs hold: no counter is ever copied.
 *
 * A connection keeps an element's number with the epoch in its upper byte. Taking the program's own
 * epoch out again gives the element's number; if the epoch is another one, it gives a number that
 * no map has, and the element is found by its key, in this epoch.
 */
#define EPOCH_SHIFT 24

static __always_inline __u32 epoch_tag(__u32 number)
{
	return number ^ config.epoch << EPOCH_SHIFT;
}

static __always_inline __u32 epoch_number(__u32 tagged)
{
	return tagged ^ config.epoch << EPOCH_SHIFT;
}

static __always_inline bool epoch_is_other(__u32 number)
{
	return number >> EPOCH_SHIFT;
}

static __always_inline void address_copy(void *to, const void *from)
{
	((__u64 *)to)[0] = ((__u64 *)from)[0];
	((__u64 *)to)[1] = ((__u64 *)from)[1];
}

/*
 * Makes the element of KEY in linkerd_WHAT_map, and returns its number, or the number of the
 * element that another CPU has made for KEY meanwhile. No element is ever given up. When there is
 * no room (E2BIG) or no memory (ENOMEM), an overflow is counted and the number is ELEMENT_OTHER, so
 * that a total misses nothing. PREPARE fills what must be there before others find the element. The
 * key and its check show the element to metricd; the CPU that made the element writes them.
 */
#define element_make(WHAT, KEY, PREPARE)                                                           \
	({                                                                                         \
		__u32 i_ = ELEMENT_OTHER, *found_;                                                 \
		typeof(KEY) key_ = (KEY);                                                          \
		typeof(WHAT##_grown(0)) new_;                                                      \
		if (!bpf_map_pop_elem(&linkerd_##WHAT##_free_map, &i_) &&                          \
		    (new_ = WHAT##_grown(i_))) {                                                   \
			PREPARE(new_);                                                             \
			if (!bpf_map_update_elem(&linkerd_##WHAT##_index_map, key_, &i_,           \
						 BPF_NOEXIST)) {                                   \
				new_->key = *key_;                                                 \
				barrier();                                                         \
				new_->check = key_check(key_, sizeof(*key_));                      \
			} else {                                                                   \
				bpf_map_push_elem(&linkerd_##WHAT##_free_map, &i_, 0);             \
				found_ = bpf_map_lookup_elem(&linkerd_##WHAT##_index_map, key_);   \
				i_ = found_ ? *found_ : ELEMENT_OTHER;                             \
			}                                                                          \
		} else {                                                                           \
			i_ = ELEMENT_OTHER;                                                        \
		}                                                                                  \
		if (i_ == ELEMENT_OTHER)                                                           \
			counters_add(WHAT##_overflow);                                             \
		i_;                                                                                \
	})

#define ELEMENT_AS_IS(e) (void)(e)

/* The direction of a connection: enum direction. */
static __always_inline __u8 series_direction(const struct conn_key *k, __u8 flags)
{
	bool loopback = conn_is_loopback(k);

	if (config.mesh && loopback)
		return mesh_direction(flags);
	return (flags & CONN_CLIENT_LOCAL) && !loopback ? DIRECTION_OUTBOUND : DIRECTION_INBOUND;
}

/* The series of a connection, at the configured detail. */
static __always_inline void series_key(struct metric_key *key, const struct conn_key *k, __u8 flags)
{
	__u64 *words = (__u64 *)key;
	bool client_local = flags & CONN_CLIENT_LOCAL;

	words[0] = words[1] = words[2] = words[3] = words[4] = 0;
	key->proto = k->proto;
	key->direction = series_direction(k, flags);
	key->dst_port = client_local ? k->remote_port : k->local_port;
	if (config.detail != DETAIL_POD) {
		address_copy(key->src, client_local ? k->local : k->remote);
		address_copy(key->dst, client_local ? k->remote : k->local);
	}
	if (unlikely(config.detail == DETAIL_FULL))
		key->src_port = client_local ? k->local_port : k->remote_port;
	if (mesh_is_proxys(flags))
		key->origin = ORIGIN_PROXY;
	if (mesh_hides_client(k, flags)) {
		key->src[0] = key->src[1] = 0;
		key->src_port = 0;
	}
}

/* Makes of a key the one of attempts that have not opened a connection, and of packets that belong
 * to none, whoever has sent them. */
static __always_inline void series_unopened(struct metric_key *key)
{
	key->src[0] = key->src[1] = key->dst[0] = key->dst[1] = 0;
	key->src_port = 0;
	key->dst_port = port_of_attempts(key->direction, key->dst_port);
	key->origin = ORIGIN_UNOPENED;
}

/* How series_find looks for a series. */
#define SERIES_BY_KEY (1 << 0) /* its key is in the scratch, and not the packet's */
#define SERIES_IF_ANY                                                                              \
	(1 << 1) /* if there is none, take the one of attempts: make none for a peer */

/* How the series of a connection with these flags (CONN_…) is looked for. */
static __always_inline __u32 series_how(__u8 flags)
{
	return flags & CONN_UNSETTLED ? SERIES_IF_ANY : 0;
}

/* Finds a series (SERIES_…), or makes it, and returns its number. */
__noinline __u32 series_find(struct __sk_buff *skb, __u32 how)
{
	struct scratch *s = scratch();
	struct metric_key *key;
	struct packet *p;
	__u32 *found;

	if (!s || !skb->len)
		return ELEMENT_OTHER;
	p = &s->packet;
	key = &s->series;
	if (how & SERIES_BY_KEY) {
		/* The key is in the scratch already. */
	} else if (likely(p->kind == SERIES_IP)) {
		series_key(key, &p->key, p->flags);
	} else {
		__builtin_memset(key, 0, sizeof(*key));
		key->kind = p->kind;
	}
	found = bpf_map_lookup_elem(&linkerd_metrics_index_map, key);
	if (unlikely(!found && (how & SERIES_IF_ANY))) {
		series_unopened(key);
		found = bpf_map_lookup_elem(&linkerd_metrics_index_map, key);
	}
	if (likely(found))
		return *found;
	return element_make(metrics, key, ELEMENT_AS_IS);
}

static __always_inline struct metric_value *series_value(__u32 series)
{
	struct metric_entry *e = metrics_element(series);

	return e ? &e->value : NULL;
}

/* The other end's address, for a histogram's key: only where --detail full asks for it. */
static __always_inline void series_peer(__u64 *peer, const struct metric_key *key)
{
	if (unlikely(config.detail == DETAIL_FULL))
		address_copy(peer, key->direction == DIRECTION_OUTBOUND ? key->dst : key->src);
}

static __always_inline void series_add_aborted(struct metric_value *v, __u32 reason, __u64 n)
{
	if (reason == ABORT_TIMEOUT || reason == ABORT_STOPPED)
		reason = ABORT_CANCELLED;
	bounded(reason, 7);
	if (reason <= ABORT_RESET)
		add((__u64 *)&v->aborted + reason, n);
	add(&v->ended, n);
}

static __always_inline void series_add_closed(struct metric_value *v, __u64 reason)
{
	fresh(reason);
	if (reason < CLOSE_MAX)
		add((__u64 *)&v->closed + reason, 1);
	add(&v->active, -1);
}

static __always_inline void series_add_decided(struct metric_value *v, __u64 decision)
{
	fresh(decision);
	if (decision < DECIDED_MAX)
		add((__u64 *)&v->decided + decision, 1);
	else if (decision == DECIDED_TLS)
		add(&v->tls, 1);
	else if (decision == DECIDED_DNS)
		add(&v->dns, 1);
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
	struct delta *delta = &p->delta;
	__u64 lost;

	add(&io->packets, p->segments);
	add(&io->bytes, p->wire_bytes);
	if (delta->requests)
		add(&v->requests.http1, delta->requests);
	if (delta->answered)
		add(&v->ended, delta->answered);
	if (delta->http2)
		add(&v->requests.http2, delta->http2);
	if (delta->grpc)
		add(&v->requests.grpc, delta->grpc);
	if (likely(!(delta->opened | delta->closed | delta->lost | delta->retransmits |
		     delta->untimed | delta->decided)))
		return;
	if (delta->decided)
		series_add_decided(v, (__u64)delta->decided - 1);
	if (delta->retransmits)
		add(&io->retransmits, delta->retransmits);
	if (delta->untimed)
		add(&v->untimed, delta->untimed);
	if (delta->opened) {
		add(&v->opened, delta->opened);
		add(&v->active, delta->opened);
	}
	/* Newer clangs would take delta->lost and delta->closed for the index, whose bound 5.10
	 * does not know. */
	lost = (__u64)delta->lost - 1;
	fresh(lost);
	if (lost < LOST_MAX)
		add((__u64 *)&v->lost + lost, 1);
	if (delta->closed) {
		series_add_closed(v, (__u64)delta->closed - 1);
		if (delta->aborted)
			series_add_aborted(v, abort_reason(delta->closed - 1), delta->aborted);
	}
}

/* Finds the histograms of a response, or makes them, and returns their number. */
static __always_inline __u32 responses_latency(struct scratch *s)
{
	const struct request_key *request = &s->response;
	struct latency_key *key = &s->latency;
	__u32 *found;

	__builtin_memset(key, 0, sizeof(*key));
	series_peer(key->peer, &request->series);
	key->port = request->series.dst_port;
	key->direction = request->series.direction;
	key->protocol = request->protocol;
	key->status_class =
	    request->status == STATUS_ABORTED ? CLASS_ABORTED : request->status / 100;
	key->route = request->route;
	found = bpf_map_lookup_elem(&linkerd_latency_index_map, key);
	if (found)
		return *found;
	return element_make(latency, key, ELEMENT_AS_IS);
}

/* What tells responses of one series apart. */
union response {
	__u32 word;
	struct {
		__u16 status;
		__u8 protocol;
		__u8 grpc_status;
	};
};

/* Finds the element that counts responses of this kind to requests of this route, for the series
 * whose key is in scratch.response, or makes it. Returns its number. */
static __always_inline __u32 responses_by_key(struct scratch *s, union response what, __u32 route)
{
	struct request_key *key = &s->response;
	__u32 *found, latency;

	key->status = what.status;
	key->protocol = what.protocol;
	key->grpc_status = what.grpc_status;
	key->route = route;
	key->pad = 0;
	found = bpf_map_lookup_elem(&linkerd_requests_index_map, key);
	if (found)
		return *found;
	latency = what.status == STATUS_REQUESTS ? ELEMENT_OTHER : responses_latency(s);
#define ELEMENT_WITH_LATENCY(e) ((e)->latency = latency)
	return element_make(requests, key, ELEMENT_WITH_LATENCY);
#undef ELEMENT_WITH_LATENCY
}

/* responses_by_key, of a union response, for the packet's connection. With `by_key` it is for the
 * series whose key is in scratch.response. */
__noinline __u32 responses_find(struct __sk_buff *skb, __u32 response, __u32 route, bool by_key)
{
	union response what = {.word = response};
	struct scratch *s = scratch();

	if (!s || !skb->len)
		return ELEMENT_OTHER;
	if (likely(!by_key)) {
		if (unlikely(s->packet.series == ELEMENT_OTHER))
			return ELEMENT_OTHER;
		series_key(&s->response.series, &s->packet.key, s->packet.flags);
	}
	return responses_by_key(s, what, route);
}

/* Counts `n` answers whose status is not known, and will not be. */
static __always_inline void responses_add_unknown(struct __sk_buff *skb, __u8 protocol, __u64 n)
{
	union response what = {.protocol = protocol, .grpc_status = GRPC_STATUS_NONE};
	__u32 at =
	    responses_find(skb, what.word, config.routes ? ROUTE_UNKNOWN : ROUTE_NONE, false);
	struct request_entry *e = requests_element(at);

	if (e)
		add(&e->value.responses, n);
}

#endif
