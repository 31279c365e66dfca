/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers of one packet that fall into one set of counters: they are added up, and added to the
 * counters at the packet's end, at once. */
#ifndef METRICD_COUNT_ANSWERS_H
#define METRICD_COUNT_ANSWERS_H

#include "count/responses.h"

/* Adds the answers that were kept back to their counters. */
static __always_inline void answers_add(struct answers *a)
{
	struct request_entry *e = requests_element(a->request);
	struct latency_entry *l = latency_element(a->latency);
	__u32 i = a->duration.bucket, j = a->ttfb.bucket;

	if (!e || !l)
		return;
	bounded(i, 31);
	bounded(j, 31);
	add(&e->value.responses, a->count);
	add(&l->value.buckets[i].duration, a->count);
	add(&l->value.buckets[j].ttfb, a->count);
	add(&l->value.sum_ns.duration, a->duration_ns);
	add(&l->value.sum_ns.ttfb, a->ttfb_ns);
}

/* Adds the answers that were kept back, at the end of the packet. */
__noinline int answers_end(struct __sk_buff *skb)
{
	struct scratch *s = scratch();

	if (s && skb->len)
		answers_add(&s->packet.answers);
	return 0;
}

#define TIME_UNKNOWN (~0ULL)

/* Takes an answer that differs from the answers kept back so far. They are added to their
 * counters, and this answer is kept back in their place; if its times are not known, it is
 * counted at once. */
__noinline int answers_begin(struct __sk_buff *skb, __u32 what, __u32 route, __u64 duration,
			     __u64 ttfb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	union response response = {.word = what};
	struct request_entry *e;
	struct answers *a;

	if (!c)
		return 0;
	a = &s->packet.answers;
	if (a->count)
		answers_add(a);
	a->count = 0;
	e = responses_element(skb, conn_side(c, ROLE_SERVER), response, route);
	if (!e)
		return 0;
	if (duration == TIME_UNKNOWN) {
		add(&e->value.responses, 1);
		s->packet.delta.untimed++;
		return 0;
	}
	a->count = 1;
	a->request = epoch_number(conn_side(c, ROLE_SERVER)->response);
	a->latency = e->latency;
	a->what = what;
	a->route = route;
	a->duration = histogram_range(duration);
	a->ttfb = histogram_range(ttfb);
	a->duration_ns = duration;
	a->ttfb_ns = ttfb;
	return 0;
}

#endif
