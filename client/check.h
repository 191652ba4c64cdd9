/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h - findings of `hfbus check`: what was found, whether it suits a bus, and
 * what to do about it.
 *
 *	hfb_check_add(&list, "memlock", HFB_CHECK_WARN, "8 MiB", "raise it with ulimit -l");
 *
 * Threads: one.
 */
#ifndef HFB_CHECK_H
#define HFB_CHECK_H

#include <stdint.h>

#define HFB_CHECK_FINDINGS_MAX 40u

enum hfb_check_verdict {
	HFB_CHECK_OK,	/* as fast as it gets */
	HFB_CHECK_INFO, /* worth knowing */
	HFB_CHECK_WARN, /* works, slower or with larger tails */
	HFB_CHECK_FAIL, /* hfbusd will not run here */
};

struct hfb_check_finding {
	const char *name;
	enum hfb_check_verdict verdict;
	char found[320];
	char advice[480]; /* "" = none needed */
};

struct hfb_check_list {
	struct hfb_check_finding findings[HFB_CHECK_FINDINGS_MAX];
	uint32_t count;
};

/* @advice NULL = none. */
void hfb_check_add(struct hfb_check_list *list, const char *name, enum hfb_check_verdict verdict,
		   const char *advice, const char *found, ...)
	__attribute__((format(printf, 5, 6)));

void hfb_check_host(struct hfb_check_list *list);		      /* CPUs, memory, kernel */
void hfb_check_disk(struct hfb_check_list *list, const char *folder); /* where the log lives */

/* First line of a file without its end; "" when it cannot be read. */
const char *hfb_check_file_line(const char *path, char *to, uint32_t size);

#endif
