/* SPDX-License-Identifier: Apache-2.0 */
#include "bug.h"

#include <stdio.h>
#include <stdlib.h>

void
hfb_assert_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "hfbus: bug at %s:%d: %s does not hold; stopping\n", file, line, what);
	abort();
}
