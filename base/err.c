/* SPDX-License-Identifier: Apache-2.0 */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One sentence on one line: text may come from a peer or a file name. */
static void
err_text_clean(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
	}
}

#undef hfb_err_set
int
hfb_err_set(struct hfb_err *err, int code, const char *format, ...)
{
	char text[HFB_ERR_TEXT_MAX];
	va_list ap;

	if (err == NULL)
		return code;
	/* Through a buffer of our own, as an argument may be err->text itself. */
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	err_text_clean(text);
	memcpy(err->text, text, sizeof(text));
	err->code = code;
	return code;
}

int
hfb_err_prefix(struct hfb_err *err, const char *format, ...)
{
	char text[HFB_ERR_TEXT_MAX];
	va_list ap;
	size_t n;

	if (err == NULL)
		return 0;
	va_start(ap, format);
	vsnprintf(text, sizeof(text) - 2, format, ap);
	va_end(ap);
	/* What does not fit is cut off: the innermost reason goes last. */
	n = strlen(text);
	text[n++] = ':';
	text[n++] = ' ';
	for (const char *from = err->text; *from != '\0' && n < sizeof(text) - 1; from++)
		text[n++] = *from;
	text[n] = '\0';
	err_text_clean(text);
	memcpy(err->text, text, sizeof(text));
	return err->code;
}
