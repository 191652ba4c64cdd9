/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios.h - the table of hfbus-bench: a line a scenario, in the order --help shows.
 * BENCH_SCENARIO(x) stands for the object `const struct bench_scenario bench_x` of its file.
 * No guard: it is read more than once.
 */
BENCH_SCENARIO(log)
BENCH_SCENARIO(limit_append_disk)
BENCH_SCENARIO(limit_group_commit)
BENCH_SCENARIO(limit_memif_echo)
BENCH_SCENARIO(limit_memif_rate)
BENCH_SCENARIO(limit_memif_append)
BENCH_SCENARIO(limit_overwrite)
BENCH_SCENARIO(limit_read)
BENCH_SCENARIO(limit_read_check)
BENCH_SCENARIO(limit_shm_hop)
BENCH_SCENARIO(limit_shm_relay)
BENCH_SCENARIO(limit_kernel_udp_echo)
BENCH_SCENARIO(limit_kernel_tcp_echo)
BENCH_SCENARIO(limit_stalls)
BENCH_SCENARIO(feed)
BENCH_SCENARIO(feed_check)
BENCH_SCENARIO(replay)
BENCH_SCENARIO(compare)
BENCH_SCENARIO(publish)
BENCH_SCENARIO(echo)
BENCH_SCENARIO(fanout)
BENCH_SCENARIO(consume)
BENCH_SCENARIO(mixed)
BENCH_SCENARIO(idle)
