/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1 is followed again, where a direction was lost or bytes of it were never seen, at a point
 * that proves itself:
 *
 * - the client's segment begins with a whole request line, and nothing behind it has been seen;
 * - no byte is under way: with this segment the client acknowledges all that the server has sent,
 *   and with its last payload the server has acknowledged all that the client had sent before;
 * - the side that was followed is between two messages, and there all requests have been answered;
 * - the client has not been seen to send a request before the answer to the one before. Where bytes
 *   of the server are missing, at most one request has no answer; or two, and what the server has
 *   sent behind the missing bytes begins with a status line.
 *
 * What the server sends next must begin with a status line, or its side is lost again. In HTTP/2
 * the dynamic tables of HPACK can't be known again (RFC 7541 section 2.3.2), so it stays lost.
 */
#ifndef METRICD_HTTP_HTTP1_RESUME_H
#define METRICD_HTTP_HTTP1_RESUME_H

#include "http/http1/http1.h"

/* Where a direction stands, compared with the sequence number of its next byte. */
enum stand {
	STANDS_BETWEEN, /* between two messages */
	STANDS_WITHIN,	/* in a message */
	STANDS_LOST,
	STANDS_BEHIND, /* bytes are missing that the message at hand does not reach over */
};

static __always_inline enum stand http1_stand(const struct parser *h, __u32 seq)
{
	__u32 missing = seq - h->next;

	if (h->phase == PHASE_LOST)
		return STANDS_LOST;
	if (missing)
		return seq_before(seq, h->next) || (h->phase >= HTTP1_BODY && missing <= h->left)
			   ? STANDS_WITHIN
			   : STANDS_BEHIND;
	if ((h->phase == PHASE_START && !h->carry_len) || h->phase == HTTP1_UNASKED)
		return STANDS_BETWEEN;
	return STANDS_WITHIN;
}

/* Begins anew, between two messages, at `seq`. */
static __always_inline void http1_anew(struct parser *h, __u32 seq)
{
	early_free(h->early);
	h->early = 0;
	h->ahead_lo = h->ahead_hi = 0;
	h->phase = PHASE_START;
	h->line = HTTP1_LINE_NEW;
	h->carry_len = 0;
	h->framing = 0;
	h->next = seq;
}

/* Does the packet at hand, which the client sends, begin with a whole request line? */
__noinline int http1_begins_request(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	__u32 n;

	if (!c)
		return 0;
	s->packet.pos = s->packet.payload;
	n = http1_line(skb);
	return n && http1_method(s, &conn_side(c, ROLE_CLIENT)->parser, 0) &&
	       http1_version(s, 0, http1_text(s, 0, n - 1));
}

/*
 * Do the server's bytes behind those that are missing begin with a status line? Then the missing
 * ones were a whole answer, or more than one.
 */
__noinline int http1_answers_behind(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct packet *p;
	struct parser *h;
	struct early *e;
	int failed;

	if (!c)
		return 0;
	p = &s->packet;
	h = &conn_side(c, ROLE_SERVER)->parser;
	e = early_of(h->early);
	if (!e)
		return 0;
	/* The lowest range is found in memory, where the verifier does not tell it from others. */
	p->early = 0;
	for (int i = 0; i < EARLY_RANGES; i++) {
		__u32 lo = e->ranges[i].lo;

		if (lo != e->ranges[i].hi && (!p->early || seq_before(lo, p->early_seq))) {
			p->early_seq = lo;
			p->early = h->early;
		}
	}
	p->pos = 0;
	failed = early_load(skb, 0);
	p->early = 0;
	return !failed && (buffer_word(s, 0) & 0x00ffffffffffffffULL) ==
			      CHARS('H', 'T', 'T', 'P', '/', '1', '.', 0);
}

/*
 * Follows both directions again, from the packet at hand and from the sequence number `answers` on,
 * if they stand so that they can be. The caller holds both. Returns GO_ON if the packet is to be
 * read from its beginning.
 */
__noinline int http1_resume_both(struct __sk_buff *skb, __u32 answers)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	struct side *client, *server;
	enum stand asks, answered;
	union tagged_seq skip;
	struct packet *p;
	bool taken = false, pipelines;
	__u32 n;

	if (!c)
		return STOP;
	p = &s->packet;
	client = conn_side(c, ROLE_CLIENT);
	server = conn_side(c, ROLE_SERVER);
	asks = http1_stand(&client->parser, p->seq);
	answered = http1_stand(&server->parser, answers);
	if (asks == STANDS_WITHIN || answered == STANDS_WITHIN)
		return STOP;
	n = client->requests - server->answered;
	if (answered == STANDS_BETWEEN && n)
		return STOP;
	/* The answer to one request is in the gap. Of several, some may be still to come. */
	pipelines = answered == STANDS_BEHIND && n > 1 && !(n == 2 && http1_answers_behind(skb));
	n = 0;
	bpf_spin_lock(&c->lock);
	if (c->brief.generation == p->generation && c->brief.state == SLOT_LIVE &&
	    c->brief.l7 == L7_HTTP1) {
		n = conn_outstanding(c);
		p->pending += conn_pending(c);
		if (pipelines) {
			c->ends |= END_PIPELINES;
			c->brief.flags |= CONN_ANSWERS_LOST;
		} else {
			taken = true;
			c->brief.seen &= ~SEEN_BROKEN;
			c->brief.flags &= ~CONN_ANSWERS_LOST;
		}
	}
	bpf_spin_unlock(&c->lock);
	p->unknown += n;
	if (asks == STANDS_BEHIND || answered == STANDS_BEHIND)
		p->delta.lost = LOST_GAP + 1;
	if (!taken) {
		if (pipelines)
			server->parser.phase = PHASE_LOST;
		return STOP;
	}
	if (asks != STANDS_BETWEEN || answered != STANDS_BETWEEN)
		counters_add(resumed);
	http1_anew(&client->parser, p->seq);
	http1_anew(&server->parser, answers);
	/* The next request's run is the next one that the server's side looks at. */
	server->begun = client->requests;
	WRITE_ONCE(server->run_tail, client->run_head);
	skip.generation = p->generation;
	skip.seq = answers;
	WRITE_ONCE(server->skip.word, skip.word);
	p->pos = p->payload;
	return GO_ON;
}

/*
 * The client sends a segment on a connection that is SEEN_BROKEN: follows the connection again, if
 * this is a point that proves itself. Returns GO_ON if the packet is to be read from its beginning.
 */
__noinline int http1_resume(struct __sk_buff *skb)
{
	struct scratch *s;
	struct conn *c = parser_enter(skb, &s);
	union tagged_seq client, server;
	struct packet *p;
	int r;

	if (!c || (c->ends & END_PIPELINES))
		return STOP;
	p = &s->packet;
	client.word = READ_ONCE(conn_side(c, ROLE_CLIENT)->end.word);
	server.word = READ_ONCE(conn_side(c, ROLE_SERVER)->end.word);
	if (client.seq != p->seq + (p->end - p->payload) || server.generation != p->generation)
		return STOP;
	if (p->ack != server.seq || READ_ONCE(c->acked) != p->seq) {
		if (http1_stand(&conn_side(c, ROLE_CLIENT)->parser, p->seq) == STANDS_BETWEEN) {
			bpf_spin_lock(&c->lock);
			if (c->brief.generation == p->generation)
				c->ends |= END_PIPELINES;
			bpf_spin_unlock(&c->lock);
		}
		return STOP;
	}
	if (!http1_begins_request(skb) || !conn_busy_anywhere(c, ROLE_SERVER))
		return STOP;
	r = http1_resume_both(skb, server.seq);
	conn_done_anywhere(c, ROLE_SERVER);
	return r;
}

#endif
