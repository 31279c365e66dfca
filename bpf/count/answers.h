/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers of one packet that fall into one set of counters: they are added up, and added to the
 * counters at the packet's end, at once. */
#ifndef METRICD_COUNT_ANSWERS_H
#define METRICD_COUNT_ANSWERS_H

#include "count/responses.h"

/* Adds the answers that were kept back to their counters. */
static __always_inline void answers_add(struct answers *answers)
{
	struct request_entry *request = requests_element(answers->request);
	struct latency_entry *latency = latency_element(answers->latency);
	__u32 i = answers->duration.bucket, j = answers->ttfb.bucket;

	if (!request || !latency)
		return;
	bounded(i, 31);
	bounded(j, 31);
	add(&request->value.responses, answers->count);
	add(&latency->value.buckets[i].duration, answers->count);
	add(&latency->value.buckets[j].ttfb, answers->count);
	add(&latency->value.sum_ns.duration, answers->duration_ns);
	add(&latency->value.sum_ns.ttfb, answers->ttfb_ns);
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
	struct answers *answers;

	if (!c)
		return 0;
	answers = &s->packet.answers;
	if (answers->count)
		answers_add(answers);
	answers->count = 0;
	e = responses_element(skb, conn_side(c, ROLE_SERVER), response, route);
	if (!e)
		return 0;
	if (duration == TIME_UNKNOWN) {
		add(&e->value.responses, 1);
		s->packet.delta.untimed++;
		return 0;
	}
	answers->count = 1;
	answers->request = epoch_number(conn_side(c, ROLE_SERVER)->response);
	answers->latency = e->latency;
	answers->what = what;
	answers->route = route;
	answers->duration = histogram_range(duration);
	answers->ttfb = histogram_range(ttfb);
	answers->duration_ns = duration;
	answers->ttfb_ns = ttfb;
	return 0;
}

#endif
