/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Requests that never got their whole response, by protocol and route, and how long they had been
 * waited for. The series of the requests counts them, too, by fewer reasons.
 */
#ifndef METRICD_COUNT_ABORTED_H
#define METRICD_COUNT_ABORTED_H

#include "count/histogram.h"
#include "count/requests.h"

/* Says whose requests aborted_add counts: those of a series, by its number. */
static __always_inline void aborted_of(struct scratch *s, __u32 series)
{
	struct metric_entry *e = metrics_element(series);

	s->aborted.series = e ? series : ELEMENT_OTHER;
	if (e)
		__builtin_memcpy(&s->response.series, &e->key, sizeof(e->key));
}

/* Is an end a failure of the server or of the way to it? It is none if the client had what it
 * wanted, and nobody knows what came of a request that was evicted. */
static __always_inline bool aborted_is_failure(__u32 reason)
{
	return reason != ABORT_STOPPED && reason != ABORT_EVICTED;
}

/* Counts `n` requests of what does not fit. */
static __always_inline void aborted_other(__u64 reason, __u32 n)
{
	struct counters *c = counters();

	bounded(reason, 15);
	if (c && reason < ABORT_MAX)
		add((__u64 *)&c->aborted + reason, n);
}

/* Counts `n` requests of the series of aborted_of. They have this protocol and, as grpc_status,
 * this enum abort_reason (`what` is a union response), and began at `start_ns`, which is 0 if that
 * is not known. */
static __always_inline void aborted_count(struct scratch *s, __u32 what, __u32 route,
					  __u64 start_ns, __u32 n)
{
	union response response = {.word = what};
	__u32 at = ELEMENT_OTHER, latency = ELEMENT_OTHER;
	struct request_entry *e;
	struct metric_value *v;

	if (s->aborted.series != ELEMENT_OTHER)
		at = responses_by_key(s, response, route);
	e = requests_element(at);
	if (e && at != ELEMENT_OTHER) {
		add(&e->value.responses, n);
		latency = e->latency;
	} else {
		aborted_other(response.grpc_status, n);
	}
	if (!aborted_is_failure(response.grpc_status))
		return;
	if (start_ns) {
		histogram_aborted(latency, clock_since(start_ns, packet_now(&s->packet)), n);
		return;
	}
	v = series_value(s->aborted.series);
	if (v)
		add(&v->untimed, n);
}

/* aborted_count as a function of its own. */
__noinline int aborted_add(struct __sk_buff *skb, __u32 what, __u32 route, __u64 start_ns, __u32 n)
{
	struct scratch *s = scratch();

	if (s && skb->len && n)
		aborted_count(s, what, route, start_ns, n);
	return 0;
}

/* The union response for aborted_count. */
static __always_inline __u32 aborted_what(__u32 protocol, __u32 reason)
{
	union response what = {
	    .status = STATUS_ABORTED, .protocol = protocol, .grpc_status = reason};

	return what.word;
}

/* The route of a request that will not have an answer. */
static __always_inline __u32 aborted_route(__u32 route)
{
	return route < ROUTE_CANDIDATE ? route : ROUTE_UNKNOWN;
}

/* Counts an open stream of a connection that has ended, by its place in an element of
 * linkerd_http2_map. A function of its own for the loop. */
__noinline int aborted_stream(struct __sk_buff *skb, __u32 at, __u32 place)
{
	struct http2 *x = http2_element(at);
	struct scratch *s = scratch();
	struct http2_stream *r;

	if (!x || !s || !skb->len)
		return 0;
	bounded(place, (HTTP2_STREAMS - 1));
	r = &x->streams[place];
	if (!s->aborted.count)
		return 0;
	s->aborted.count--;
	aborted_count(s, aborted_what(r->protocol, s->aborted.reason), aborted_route(r->route),
		      r->start_ns, 1);
	return 0;
}

/* Counts the open streams of an element of linkerd_http2_map whose connection has ended. Returns
 * the next element, plus one. */
__noinline int aborted_streams(struct __sk_buff *skb, __u32 at)
{
	struct http2 *x = http2_element(at);

	if (!x || !skb->len)
		return 0;
	for (int i = 0; i < HTTP2_STREAMS; i++) {
		if (http2_taken(&x->streams[i]))
			aborted_stream(skb, at, i);
	}
	return READ_ONCE(x->next);
}

/* Counts the requests of a run of a connection that has ended, by the run's place. */
__noinline int aborted_run(struct __sk_buff *skb, __u32 at)
{
	struct scratch *s = scratch();
	struct aborted *aborted;
	union run_part part;
	__u32 route, before, n;

	if (!s || !skb->len)
		return 0;
	aborted = &s->aborted;
	bounded(at, (RUNS - 1));
	part.word = aborted->runs[at].part.word;
	route = part.route | (config.routes ? (__u32)aborted->high[at] << ROUTE_BITS : 0);
	/* Some of the run's requests may have their answers. */
	before = aborted->first - part.first;
	if (before >= part.count)
		return 0;
	n = part.count - before;
	if (n > aborted->count)
		n = aborted->count;
	aborted->count -= n;
	aborted->first += n;
	aborted_count(s, aborted_what(PROTOCOL_HTTP1, aborted->reason), aborted_route(route),
		      aborted->runs[at].start_ns, n);
	return 0;
}

/* Counts the requests in s->aborted of a connection of this series, which has ended for `reason`
 * (enum abort_reason). */
static __always_inline void aborted_end(struct __sk_buff *skb, __u32 series, __u32 reason)
{
	struct scratch *s = scratch();
	struct aborted *aborted;
	__u32 at;

	if (!s || !skb->len)
		return;
	aborted = &s->aborted;
	aborted_of(s, series);
	aborted->reason = reason;
	at = aborted->http2;
	for (int i = 0; i < HTTP2_PAGES && at; i++)
		at = aborted_streams(skb, at - 1);
	for (int i = 0; i < RUNS && !aborted->http2; i++) {
		if ((__u8)(aborted->tail + i) == aborted->head)
			break;
		aborted_run(skb, aborted->tail + i);
	}
	aborted_add(skb, aborted_what(aborted->protocol, reason),
		    config.routes ? ROUTE_UNKNOWN : ROUTE_NONE, 0, aborted->count);
}

#endif
