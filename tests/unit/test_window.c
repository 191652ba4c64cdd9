/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A producer's window.
 *
 * Goal:   every event is appended once and in order, whatever is lost, doubled,
 *	   refused or restarted; no more than the credit is in flight.
 * Method: a broker of a few lines with real rules (expected sequence, stages, credit)
 *	   behind a line that loses and delays frames, seeded; time is a number.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <hfbus/log.h>

#include "crc32c.h"
#include "hfb_test_main.h"
#include "window.h"

#define MS 1000000ull

static const struct hfb_window_config config = {
	.window_bytes = 65536,
	.batch_bytes = 1024,
	.event_bytes_max = 16384,
	.stage = HFB_STAGE_DURABLE,
	.resend_ns = 20 * MS,
};

static int
add(struct hfb_window *w, uint64_t n)
{
	char text[64];
	struct hfb_event event = { .value = text, .key = "k", .key_size = 1 };

	event.value_size =
		(uint32_t)snprintf(text, sizeof(text), "event %llu", (unsigned long long)n);
	return hfb_window_add(w, &event);
}

/* The broker's side. */
struct broker {
	uint64_t expected, durable, credit;
	uint32_t epoch;
	uint64_t appended, checked_number;
	bool known;
};

static void
broker_ack(const struct broker *b, uint16_t code, struct hfb_wire_ack *ack)
{
	*ack = (struct hfb_wire_ack){
		.code = code,
		.leader_epoch = b->epoch,
		.credit_bytes = (uint32_t)b->credit,
		.base_offset = HFB_OFFSET_UNKNOWN,
	};
	ack->sequence[HFB_STAGE_RECEIVED] = b->expected;
	ack->sequence[HFB_STAGE_DURABLE] = b->durable;
}

/* Takes one batch; checks that its records are the ones it says. */
static uint16_t
broker_produce(struct broker *b, const struct hfb_window_batch *batch)
{
	const uint8_t *at = batch->records;

	CU_ASSERT_EQUAL_FATAL(hfb_crc32c(0, batch->records, batch->bytes), batch->payload_crc);
	CU_ASSERT_EQUAL_FATAL(hfb_records_check(batch->records, batch->bytes, batch->count), 0);
	if (!b->known && batch->base_sequence != 0)
		return HFB_WIRE_UNKNOWN_PRODUCER;
	b->known = true;
	if (batch->base_sequence + batch->count <= b->expected)
		return HFB_WIRE_OK; /* a duplicate */
	if (batch->base_sequence != b->expected)
		return HFB_WIRE_SEQUENCE_GAP;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct hfb_record r;
		char want[64];
		int n = snprintf(want, sizeof(want), "event %llu",
				 (unsigned long long)(b->checked_number + i));

		memcpy(&r, at, sizeof(r));
		CU_ASSERT_EQUAL_FATAL(r.value_size, (uint32_t)n);
		CU_ASSERT_EQUAL_FATAL(memcmp(at + 16 + 1, want, (size_t)n), 0);
		at += hfb_record_bytes(r.value_size, r.key_size, r.headers_size);
	}
	b->checked_number += batch->count;
	b->expected += batch->count;
	b->appended += batch->count;
	return HFB_WIRE_OK;
}

static void
test_in_order(void)
{
	struct hfb_window w;
	struct broker b = { .credit = 1 << 20, .epoch = 1 };
	const struct hfb_window_batch *batch;
	struct hfb_window_result result;
	struct hfb_wire_ack ack;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (uint64_t i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(add(&w, i), 0);
	CU_ASSERT_FALSE(hfb_window_empty(&w));
	hfb_window_close(&w);
	while ((batch = hfb_window_next(&w, 0)) != NULL) {
		CU_ASSERT_TRUE(batch->bytes <= config.batch_bytes);
		CU_ASSERT_EQUAL(broker_produce(&b, batch), HFB_WIRE_OK);
		hfb_window_sent(&w, 0);
	}
	CU_ASSERT_EQUAL(b.expected, 100);
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 1, &result); /* received only */
	CU_ASSERT_EQUAL(result.acked_events, 0);
	CU_ASSERT_EQUAL(w.flight_bytes, 0);
	CU_ASSERT_FALSE(hfb_window_empty(&w));
	b.durable = 60;
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 2, &result);
	CU_ASSERT_EQUAL(result.acked_events, 60);
	CU_ASSERT_EQUAL(result.acked_sequence, 0);
	b.durable = 100;
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 3, &result);
	CU_ASSERT_EQUAL(result.acked_events, 40);
	CU_ASSERT_TRUE(hfb_window_empty(&w));
	CU_ASSERT_EQUAL(w.resent, 0);
	hfb_window_fini(&w);
}

static void
test_credit_is_respected(void)
{
	struct hfb_window w;
	struct broker b = { .credit = 2500, .epoch = 1 };
	struct hfb_window_result result;
	struct hfb_wire_ack ack;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (uint64_t i = 0; i < 500; i++)
		CU_ASSERT_EQUAL(add(&w, i), 0);
	hfb_window_close(&w);
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 1, &result);
	while (hfb_window_next(&w, 1) != NULL)
		hfb_window_sent(&w, 1);
	CU_ASSERT_TRUE(w.flight_bytes <= 2500);
	CU_ASSERT_TRUE(w.flight_bytes > 1000);
	/* without credit one goes out to ask for some, no second one */
	hfb_window_restart(&w, 2);
	b.credit = 0;
	hfb_window_ack(&w, &ack, 2, &result);
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 2, &result);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_window_next(&w, 2));
	hfb_window_sent(&w, 2);
	CU_ASSERT_PTR_NULL(hfb_window_next(&w, 2));
	hfb_window_fini(&w);
}

static void
test_full_window_is_back_pressure(void)
{
	struct hfb_window w;
	uint64_t n = 0;
	int r;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	while ((r = add(&w, n)) == 0)
		n++;
	CU_ASSERT_EQUAL(r, -EAGAIN);
	CU_ASSERT_TRUE(n > 1000);
	CU_ASSERT_EQUAL(w.next_sequence, n);
	hfb_window_fini(&w);
}

/* All that is there is sent and acked durable. */
static void
pass(struct hfb_window *w, struct broker *b, uint64_t *farthest)
{
	const struct hfb_window_batch *batch;
	struct hfb_window_result result;
	struct hfb_wire_ack ack;

	hfb_window_close(w);
	while ((batch = hfb_window_next(w, 0)) != NULL) {
		uint64_t end = (uint64_t)(batch->records - w->bytes) + batch->bytes;

		if (end > *farthest)
			*farthest = end;
		CU_ASSERT_TRUE_FATAL(end <= w->config.window_bytes);
		CU_ASSERT_EQUAL_FATAL(broker_produce(b, batch), HFB_WIRE_OK);
		hfb_window_sent(w, 0);
	}
	b->durable = b->expected;
	broker_ack(b, 0, &ack);
	hfb_window_ack(w, &ack, 1, &result);
	CU_ASSERT_TRUE_FATAL(hfb_window_empty(w));
}

static void
test_little_unacked_stays_at_the_start(void)
{
	struct hfb_window_config wide = config;
	uint64_t n = 0, undone = 0;

	wide.window_bytes = 1u << 20;
	/* the acks stop at another place of the lap each time */
	for (uint32_t events = 100; events < 9000; events += 450) {
		struct hfb_window w;
		struct broker b = { .credit = 1 << 24, .epoch = 1, .checked_number = n };
		uint64_t farthest = 0, bytes = 0, skip;

		CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &wide), 0);
		for (uint32_t i = 0; i < 8000 + events; i++) {
			CU_ASSERT_EQUAL_FATAL(add(&w, n++), 0);
			if (i % 100 == 0)
				pass(&w, &b, &farthest);
		}
		CU_ASSERT_TRUE(farthest > 200000 && farthest < 300000);
		while (add(&w, n) == 0)
			n++;
		undone += w.lap_skip == 0 && w.lapped != 0;
		skip = w.lap_skip != 0 && w.head <= w.lapped ? w.lap_skip : 0;
		/* however far the lap was: as many bytes as the window has */
		for (uint64_t i = w.first; i < w.closed + w.open; i++)
			bytes += w.batches[i & w.batches_mask].bytes;
		CU_ASSERT_TRUE_FATAL(bytes > wide.window_bytes - 3000);
		CU_ASSERT_TRUE_FATAL(skip < 1100);
		CU_ASSERT_TRUE_FATAL(w.tail - w.head <= wide.window_bytes);
		pass(&w, &b, &farthest);
		hfb_window_fini(&w);
	}
	CU_ASSERT_TRUE(undone > 0);
}

static void
test_one_round_of_refusals_goes_back_once(void)
{
	struct hfb_window w;
	struct broker b = { .credit = 1 << 20, .epoch = 1 };
	struct hfb_window_result result;
	struct hfb_wire_ack ack;
	uint64_t sends = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (uint64_t i = 0; i < 300; i++)
		add(&w, i);
	hfb_window_close(&w);
	/* the first frame is lost, each of the others is refused */
	while (hfb_window_next(&w, 0) != NULL) {
		hfb_window_sent(&w, 0);
		sends++;
	}
	for (uint64_t i = 0; i + 1 < sends; i++) {
		broker_ack(&b, HFB_WIRE_SEQUENCE_GAP, &ack);
		hfb_window_ack(&w, &ack, 1, &result);
		CU_ASSERT_EQUAL(result.verdict, i == 0 ? HFB_WINDOW_WENT_BACK : HFB_WINDOW_STALE);
		if (i == 0)
			CU_ASSERT_PTR_NOT_NULL(hfb_window_next(&w, 1));
		while (hfb_window_next(&w, 1) != NULL)
			hfb_window_sent(&w, 1);
	}
	CU_ASSERT_EQUAL(w.resent, sends);
	hfb_window_fini(&w);
}

static void
test_silence_sends_again_one_at_a_time(void)
{
	struct hfb_window w;
	uint64_t now = 0, n = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (uint64_t i = 0; i < 300; i++)
		add(&w, i);
	hfb_window_close(&w);
	while (hfb_window_next(&w, now) != NULL)
		hfb_window_sent(&w, now);
	CU_ASSERT_FALSE(hfb_window_tick(&w, 19 * MS));
	for (now = 20 * MS; now < 2000 * MS; now += MS) {
		if (!hfb_window_tick(&w, now))
			continue;
		n++;
		CU_ASSERT_PTR_NOT_NULL_FATAL(hfb_window_next(&w, now));
		hfb_window_sent(&w, now);
		CU_ASSERT_PTR_NULL(hfb_window_next(&w, now));
	}
	/* pauses double: 20, 40, 80 ... 640 */
	CU_ASSERT_TRUE(n >= 5 && n <= 8);
	hfb_window_fini(&w);
}

static void
test_final_refusals(void)
{
	static const uint16_t codes[] = { HFB_WIRE_FENCED, HFB_WIRE_STAGE_UNAVAILABLE,
					  HFB_WIRE_TOO_LARGE };
	struct hfb_window_result result;
	struct hfb_wire_ack ack;
	struct broker b = { .epoch = 1 };
	struct hfb_window w;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		broker_ack(&b, codes[i], &ack);
		hfb_window_ack(&w, &ack, 1, &result);
		CU_ASSERT_EQUAL(result.verdict, HFB_WINDOW_FINAL);
		CU_ASSERT_EQUAL(result.code, codes[i]);
	}
	hfb_window_fini(&w);
}

static void
test_disk_full_holds_and_goes_on(void)
{
	struct hfb_window w;
	struct broker b = { .credit = 1 << 20, .epoch = 1 };
	const struct hfb_window_batch *batch;
	struct hfb_window_result result;
	struct hfb_wire_ack ack;
	uint64_t now = 0, probes = 0;

	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &config), 0);
	for (uint64_t i = 0; i < 200; i++)
		add(&w, i);
	hfb_window_close(&w);
	for (now = 0; now < 1000 * MS; now += MS / 4) {
		while ((batch = hfb_window_next(&w, now)) != NULL) {
			hfb_window_sent(&w, now);
			probes++;
			broker_ack(&b, HFB_WIRE_NO_SPACE, &ack);
			hfb_window_ack(&w, &ack, now, &result);
			CU_ASSERT_EQUAL(result.verdict, HFB_WINDOW_REFUSED);
		}
		hfb_window_tick(&w, now);
	}
	CU_ASSERT_TRUE(probes > 5 && probes < 60);
	/* space is back */
	while (!hfb_window_empty(&w) && now < 3000 * MS) {
		now += MS;
		hfb_window_tick(&w, now);
		while ((batch = hfb_window_next(&w, now)) != NULL) {
			uint16_t code = broker_produce(&b, batch);

			hfb_window_sent(&w, now);
			b.durable = b.expected;
			broker_ack(&b, code, &ack);
			hfb_window_ack(&w, &ack, now, &result);
		}
	}
	CU_ASSERT_TRUE(hfb_window_empty(&w));
	CU_ASSERT_EQUAL(b.appended, 200);
	hfb_window_fini(&w);
}

static void
test_a_loss_of_what_was_only_received_renumbers(void)
{
	struct hfb_window_config c = config;
	struct hfb_window w;
	struct broker b = { .credit = 1 << 20, .epoch = 1 };
	const struct hfb_window_batch *batch;
	struct hfb_window_result result;
	struct hfb_wire_ack ack;

	c.stage = HFB_STAGE_RECEIVED;
	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &c), 0);
	for (uint64_t i = 0; i < 100; i++)
		add(&w, i);
	hfb_window_close(&w);
	while ((batch = hfb_window_next(&w, 0)) != NULL) {
		broker_produce(&b, batch);
		hfb_window_sent(&w, 0);
	}
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 0, &result);
	CU_ASSERT_EQUAL(result.acked_events, 100);
	for (uint64_t i = 100; i < 150; i++)
		add(&w, i);
	hfb_window_close(&w);
	/* it restarts, and has 30 of them */
	b.expected = 30;
	b.checked_number = 100; /* the app does not send the lost ones again */
	b.epoch = 2;
	hfb_window_restart(&w, 1);
	batch = hfb_window_next(&w, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
	CU_ASSERT_EQUAL(broker_produce(&b, batch), HFB_WIRE_SEQUENCE_GAP);
	hfb_window_sent(&w, 1);
	/* an old answer of the old run is no loss */
	b.epoch = 1;
	broker_ack(&b, HFB_WIRE_SEQUENCE_GAP, &ack);
	hfb_window_ack(&w, &ack, 1, &result);
	CU_ASSERT_EQUAL(result.verdict, HFB_WINDOW_STALE);
	b.epoch = 2;
	broker_ack(&b, HFB_WIRE_SEQUENCE_GAP, &ack);
	hfb_window_ack(&w, &ack, 1, &result);
	CU_ASSERT_EQUAL(result.verdict, HFB_WINDOW_LOST);
	/* as a new producer */
	hfb_window_renumber(&w, 1);
	b.expected = 0;
	b.known = false;
	while ((batch = hfb_window_next(&w, 1)) != NULL) {
		CU_ASSERT_EQUAL(broker_produce(&b, batch), HFB_WIRE_OK);
		hfb_window_sent(&w, 1);
	}
	broker_ack(&b, 0, &ack);
	hfb_window_ack(&w, &ack, 2, &result);
	CU_ASSERT_EQUAL(result.acked_events, 50);
	CU_ASSERT_TRUE(hfb_window_empty(&w));
	hfb_window_fini(&w);
}

/* Loss, delay, doubling, restarts of broker and session, all by one seed. */
static void
bad_line(bool lossy)
{
	enum { LINE = 64 };
	struct {
		struct hfb_window_batch batch;
		uint8_t *bytes;
		uint64_t at;
	} to_broker[LINE];
	struct {
		struct hfb_wire_ack ack;
		uint64_t at;
	} to_client[LINE];
	struct hfb_window_config c = config;
	uint32_t frames = 0, acks = 0;
	const uint64_t total = 60000;
	struct broker b = { .credit = 20000, .epoch = 1 };
	struct hfb_window w;
	uint64_t now = 0, added = 0, acked = 0, restarts = 0;

	c.lossy = lossy;
	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &c), 0);
	for (; acked < total && now < 400000 * MS; now += MS / 10) {
		const struct hfb_window_batch *batch;
		struct hfb_window_result result;

		while (added < total && add(&w, added) == 0)
			added++;
		hfb_window_close(&w);
		hfb_window_tick(&w, now);
		while ((batch = hfb_window_next(&w, now)) != NULL && frames < LINE) {
			hfb_window_sent(&w, now);
			CU_ASSERT_TRUE(w.flight_bytes <= 65536);
			if (hfb_test_random() % 50 == 0)
				continue; /* lost */
			for (int copies = hfb_test_random() % 50 == 0 ? 2 : 1;
			     copies > 0 && frames < LINE; copies--) {
				to_broker[frames].batch = *batch;
				to_broker[frames].bytes = malloc(batch->bytes);
				memcpy(to_broker[frames].bytes, batch->records, batch->bytes);
				to_broker[frames].at = now + hfb_test_random() % MS;
				frames++;
			}
		}
		for (uint32_t i = 0; i < frames;) {
			uint16_t code;

			if (to_broker[i].at > now) {
				i++;
				continue;
			}
			to_broker[i].batch.records = to_broker[i].bytes;
			code = broker_produce(&b, &to_broker[i].batch);
			free(to_broker[i].bytes);
			memmove(&to_broker[i], &to_broker[i + 1],
				(frames - i - 1) * sizeof(to_broker[0]));
			frames--;
			if (hfb_test_random() % 3 == 0)
				b.durable = b.expected;
			b.credit = hfb_test_random() % 40000;
			if (acks < LINE && hfb_test_random() % 50 != 0) {
				broker_ack(&b, code, &to_client[acks].ack);
				to_client[acks].at = now + hfb_test_random() % MS;
				acks++;
			}
		}
		if (hfb_test_random() % 20 == 0 && acks < LINE) {
			b.durable = b.expected;
			broker_ack(&b, 0, &to_client[acks].ack);
			to_client[acks++].at = now;
		}
		for (uint32_t i = 0; i < acks;) {
			if (to_client[i].at > now) {
				i++;
				continue;
			}
			hfb_window_ack(&w, &to_client[i].ack, now, &result);
			CU_ASSERT_NOT_EQUAL_FATAL(result.verdict, HFB_WINDOW_LOST);
			if (result.acked_events > 0) {
				CU_ASSERT_EQUAL_FATAL(result.acked_sequence, acked);
				acked += result.acked_events;
				CU_ASSERT_TRUE_FATAL(acked <= b.durable);
			}
			memmove(&to_client[i], &to_client[i + 1],
				(acks - i - 1) * sizeof(to_client[0]));
			acks--;
		}
		if (hfb_test_random() % 100 == 0) {
			/* killed: what was not durable is gone, so are frames on the way */
			b.checked_number -= b.expected - b.durable;
			b.appended -= b.expected - b.durable;
			b.expected = b.durable;
			b.known = b.durable > 0;
			b.epoch++;
			for (uint32_t i = 0; i < frames; i++)
				free(to_broker[i].bytes);
			frames = acks = 0;
			hfb_window_restart(&w, now);
			restarts++;
		}
	}
	for (uint32_t i = 0; i < frames; i++)
		free(to_broker[i].bytes);
	CU_ASSERT_EQUAL(acked, total);
	CU_ASSERT_EQUAL(b.appended, total);
	CU_ASSERT_TRUE(w.resent > 0);
	CU_ASSERT_TRUE(restarts > 0);
	hfb_window_fini(&w);
}

static void
test_a_bad_line(void)
{
	bad_line(false);
	bad_line(true);
}

/* A way that holds little: what is sent beyond is lost. */
static void
test_a_narrow_way_is_found_out(void)
{
	struct broker b = { .credit = 1 << 20, .epoch = 1, .known = true };
	struct hfb_window_config c = config;
	struct hfb_window w;
	uint64_t added = 0, acked = 0, now = 0;

	c.lossy = true;
	c.window_bytes = 1 << 20;
	c.stage = HFB_STAGE_RECEIVED;
	CU_ASSERT_EQUAL_FATAL(hfb_window_init(&w, &c), 0);
	for (; acked < 50000 && now < 60000 * MS; now += MS) {
		const struct hfb_window_batch *batch;
		struct hfb_window_result result;
		struct hfb_wire_ack ack;
		uint64_t room = 40000;
		uint16_t code = HFB_WIRE_OK;

		while (added < 50000 && add(&w, added) == 0)
			added++;
		hfb_window_close(&w);
		hfb_window_tick(&w, now);
		while ((batch = hfb_window_next(&w, now)) != NULL) {
			bool fits = room >= batch->bytes + 64u;

			room -= fits ? batch->bytes + 64u : 0;
			if (fits && broker_produce(&b, batch) != HFB_WIRE_OK)
				code = HFB_WIRE_SEQUENCE_GAP;
			hfb_window_sent(&w, now);
		}
		broker_ack(&b, code, &ack);
		hfb_window_ack(&w, &ack, now, &result);
		acked += result.acked_events;
	}
	CU_ASSERT_EQUAL(acked, 50000);
	/* it keeps to what fits, but for a try now and then */
	CU_ASSERT_TRUE(w.resent * 4 < w.frames);
	CU_ASSERT_TRUE(now < 1000 * MS);
	hfb_window_fini(&w);
}

int
main(void)
{
	CU_TestInfo tests[] = {
		{ "events are acked in order, stage by stage", test_in_order },
		{ "no more than the credit is in flight", test_credit_is_respected },
		{ "a full window is back-pressure", test_full_window_is_back_pressure },
		{ "while little is unacked it stays at the ring's start, and all of it is there",
		  test_little_unacked_stays_at_the_start },
		{ "one round of refusals goes back once",
		  test_one_round_of_refusals_goes_back_once },
		{ "silence sends again, one at a time", test_silence_sends_again_one_at_a_time },
		{ "some refusals are final", test_final_refusals },
		{ "a full disk holds, and sending goes on", test_disk_full_holds_and_goes_on },
		{ "a loss of what was only received renumbers",
		  test_a_loss_of_what_was_only_received_renumbers },
		{ "a bad line and restarts lose and double nothing", test_a_bad_line },
		{ "a narrow way is found out", test_a_narrow_way_is_found_out },
		CU_TEST_INFO_NULL,
	};
	return hfb_test_main("window", tests);
}
