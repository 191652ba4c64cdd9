/* SPDX-License-Identifier: Apache-2.0 */
#include "http_token.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANDOM_BYTES 32u

/* Under another name first: a start that is killed leaves no half token. */
static int
make(const char *path, struct hfb_err *err)
{
	uint8_t random[RANDOM_BYTES];
	char text[2 * RANDOM_BYTES + 2], next[PATH_MAX];
	int fd, r = 0;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return hfb_err_set(err, -EIO, "the kernel gives no random bytes for %s", path);
	for (uint32_t i = 0; i < RANDOM_BYTES; i++)
		snprintf(text + 2 * (size_t)i, 4, "%02x\n", random[i]);
	if ((size_t)snprintf(next, sizeof(next), "%s.new", path) >= sizeof(next))
		return hfb_err_set(err, -ENAMETOOLONG, "the name of the token's file is too long");
	(void)unlink(next);
	fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return hfb_err_set(err, -errno,
				   "cannot make the token's file %s: %s; see --http-token", path,
				   strerror(errno));
	if (write(fd, text, sizeof(text) - 1) != (ssize_t)(sizeof(text) - 1) || fsync(fd) < 0 ||
	    rename(next, path) < 0) {
		r = hfb_err_set(err, errno != 0 ? -errno : -EIO,
				"cannot write the token's file %s: %s", path, strerror(errno));
		(void)unlink(next);
	}
	close(fd);
	return r;
}

static int
take(int fd, const char *path, struct hfb_http_token *ret_token, struct hfb_err *err)
{
	struct hfb_http_token token = { 0 };
	char bytes[sizeof(token.text) + 1];
	struct stat st;
	size_t size;
	ssize_t n;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return hfb_err_set(err, -EINVAL, "%s is no file; see --http-token", path);
	if ((st.st_mode & 077) != 0)
		return hfb_err_set(
			err, -EACCES,
			"others may read the token in %s: chmod 600 it, or remove it and "
			"another one is made",
			path);
	n = read(fd, bytes, sizeof(bytes));
	if (n < 0)
		return hfb_err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	for (size = 0; size < (size_t)n && bytes[size] > ' ' && bytes[size] <= '~'; size++)
		;
	if (size < HFB_HTTP_TOKEN_BYTES_MIN || size > HFB_HTTP_TOKEN_BYTES_MAX ||
	    (size < (size_t)n && bytes[size] != '\n'))
		return hfb_err_set(err, -EINVAL,
				   "%s holds no token (one line of %u to %u printable characters); "
				   "remove it and one is made",
				   path, HFB_HTTP_TOKEN_BYTES_MIN, HFB_HTTP_TOKEN_BYTES_MAX);
	memcpy(token.text, bytes, size);
	*ret_token = token;
	return 0;
}

int
hfb_http_token_load(const char *path, struct hfb_http_token *ret_token, struct hfb_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (fd < 0 && errno == ENOENT) {
		r = make(path, err);
		if (r < 0)
			return r;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	}
	if (fd < 0)
		return hfb_err_set(err, -errno, "cannot read the token's file %s: %s", path,
				   strerror(errno));
	r = take(fd, path, ret_token, err);
	close(fd);
	return r;
}

bool
hfb_http_token_fits(const struct hfb_http_token *token, const char *authorization)
{
	static const char scheme[] = "Bearer ";
	const volatile char *wanted = token->text;
	size_t wanted_size = strlen(token->text), size;
	const char *given;
	unsigned int differ;

	if (authorization == NULL || strncasecmp(authorization, scheme, strlen(scheme)) != 0)
		return false;
	given = authorization + strlen(scheme);
	while (*given == ' ')
		given++;
	size = strlen(given);
	differ = size != wanted_size;
	/* Each byte that was given is looked at, whatever the ones before it were. */
	for (size_t i = 0; i < size; i++)
		differ |= (unsigned char)given[i] ^ (unsigned char)wanted[i % wanted_size];
	return differ == 0;
}
