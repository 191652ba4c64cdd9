/* SPDX-License-Identifier: Apache-2.0 */
#include "limit_memif.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A client that begins with the server at the same moment may get no link, for ever. */
#define SERVER_AHEAD_US 700000u
#define SOCKET_WAIT_MS	15000u

void
limit_memif_defaults(struct bench_options *o)
{
	o->cores[0] = 0;
	o->cores[1] = 1;
	o->cores_count = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 0;
}

static int
cpu_of(const struct bench *b, uint32_t index)
{
	return index < b->options.cores_count ? (int)b->options.cores[index] : -1;
}

static void
server_process(struct limit_memif *m, const struct bench *b, limit_memif_server server)
{
	struct hfb_err err = { 0 };
	char device[256];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the parent says when */
	snprintf(device, sizeof(device),
		 "net_memif0,role=server,rsize=10,socket=%s,socket-abstract=no", m->socket);
	if (bench_dpdk_open(&m->dpdk, device, cpu_of(b, 1), &err) < 0) {
		fprintf(stderr, "hfbus-bench: memif server: %s\n", err.text);
		_exit(1);
	}
	server(&m->dpdk, m->shared);
	/* a peer that goes while the other polls can crash it: nobody polls from here */
	__atomic_store_n(&m->shared->stopped, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&m->shared->leave, __ATOMIC_RELAXED) == 0)
		usleep(1000);
	_exit(0);
}

static int
socket_wait(struct limit_memif *m, struct hfb_err *err)
{
	for (uint32_t ms = 0; ms < SOCKET_WAIT_MS; ms += 10) {
		int status;

		if (access(m->socket, F_OK) == 0) {
			usleep(SERVER_AHEAD_US);
			return 0;
		}
		if (waitpid(m->server, &status, WNOHANG) == m->server) {
			m->server = 0;
			return hfb_err_set(err, -EIO, "the memif server ended");
		}
		usleep(10000);
	}
	return hfb_err_set(err, -ETIMEDOUT, "no memif socket after %u ms", SOCKET_WAIT_MS);
}

int
limit_memif_open(struct limit_memif *m, struct bench *b, limit_memif_server server)
{
	char device[256];
	int r;

	memset(m, 0, sizeof(*m));
	m->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->shared == MAP_FAILED) {
		m->shared = NULL;
		return hfb_err_set(&b->err, -ENOMEM, "no memory");
	}
	snprintf(m->folder, sizeof(m->folder), "/tmp/hfbus-bench-XXXXXX");
	if (mkdtemp(m->folder) == NULL) {
		m->folder[0] = '\0';
		return hfb_err_set(&b->err, -errno, "no folder in /tmp: %s", strerror(errno));
	}
	snprintf(m->socket, sizeof(m->socket), "%s/memif.sock", m->folder);
	m->server = fork();
	if (m->server < 0)
		return hfb_err_set(&b->err, -errno, "fork: %s", strerror(errno));
	if (m->server == 0)
		server_process(m, b, server);
	r = socket_wait(m, &b->err);
	if (r < 0)
		return r;
	snprintf(device, sizeof(device),
		 "net_memif0,role=client,rsize=10,socket=%s,socket-abstract=no", m->socket);
	r = bench_dpdk_open(&m->dpdk, device, cpu_of(b, 0), &b->err);
	if (r == 0)
		r = bench_dpdk_link_wait(&m->dpdk, SOCKET_WAIT_MS, &b->err);
	if (r == 0 && !m->dpdk.hugepages)
		bench_note(b, "no free hugepages: packet buffers lie in ordinary pages");
	return r;
}

void
limit_memif_close(struct limit_memif *m)
{
	if (m->shared == NULL)
		return;
	__atomic_store_n(&m->shared->stop, 1, __ATOMIC_RELAXED);
	while (m->server > 0 && __atomic_load_n(&m->shared->stopped, __ATOMIC_ACQUIRE) == 0 &&
	       waitpid(m->server, NULL, WNOHANG) == 0)
		usleep(1000);
	bench_dpdk_close(&m->dpdk);
	__atomic_store_n(&m->shared->leave, 1, __ATOMIC_RELAXED);
	if (m->server > 0)
		waitpid(m->server, NULL, 0);
	if (m->folder[0] != '\0') {
		unlink(m->socket);
		rmdir(m->folder);
	}
	munmap(m->shared, 4096);
	m->shared = NULL;
}
