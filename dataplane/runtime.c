/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Only a folder that is ours alone to change: in /tmp anyone could have made it. */
static bool
folder_make(const char *path)
{
	struct stat stat;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return false;
	return lstat(path, &stat) == 0 && S_ISDIR(stat.st_mode) && stat.st_uid == geteuid() &&
	       (stat.st_mode & 0022) == 0;
}

bool
hfb_runtime_folder(char *to, size_t bytes)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (runtime != NULL && runtime[0] == '/') {
		snprintf(to, bytes, "%s", runtime);
		return true;
	}
	if (geteuid() == 0) {
		snprintf(to, bytes, "/run");
		return true;
	}
	snprintf(to, bytes, "/tmp/hfbus-%u", (unsigned int)geteuid());
	return folder_make(to);
}

static bool
link_path(char *to, size_t bytes)
{
	char base[PATH_MAX - 32], folder[PATH_MAX - 16];

	if (!hfb_runtime_folder(base, sizeof(base)))
		return false;
	snprintf(folder, sizeof(folder), "%s/hfbus", base);
	if (!folder_make(folder))
		return false;
	snprintf(to, bytes, "%s/default", folder);
	return true;
}

/* Does an hfbusd listen in that folder? */
static bool
bus_answers(const char *data_dir)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bool answers;
	int fd;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/hfbusd.sock", data_dir) >=
	    (int)sizeof(address.sun_path))
		return false;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true; /* not known: leave it alone */
	answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
	close(fd);
	return answers;
}

bool
hfb_runtime_default_take(const char *data_dir)
{
	char link[PATH_MAX], temporary[PATH_MAX + 32], target[PATH_MAX];
	ssize_t n;

	if (!link_path(link, sizeof(link)))
		return false;
	n = readlink(link, target, sizeof(target) - 1);
	if (n >= 0) {
		target[n] = '\0';
		if (strcmp(target, data_dir) == 0)
			return true;
		if (bus_answers(target))
			return false;
	}
	/* replaced in one step, so that a client finds the old one or the new one */
	snprintf(temporary, sizeof(temporary), "%s.%d", link, (int)getpid());
	unlink(temporary);
	if (symlink(data_dir, temporary) < 0)
		return false;
	if (rename(temporary, link) < 0) {
		unlink(temporary);
		return false;
	}
	return true;
}

void
hfb_runtime_default_drop(const char *data_dir)
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	if (!link_path(link, sizeof(link)))
		return;
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return;
	target[n] = '\0';
	if (strcmp(target, data_dir) == 0)
		unlink(link);
}
