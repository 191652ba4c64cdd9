/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk_private.h - what the files of the simulated disk share.
 *
 *	sim_disk.c	   its life; what it holds, and what a test may ask of it
 *	sim_disk_state.c   names, bytes and writes, remembered in order
 *	sim_disk_calls.c   the calls of env.h on files and folders
 *	sim_disk_io.c	   its queue, as io_uring's
 *	sim_disk_crash.c   what may be left of it
 *
 * Threads: who calls holds the disk's lock, but for the calls themselves.
 */
#ifndef SIM_DISK_PRIVATE_H
#define SIM_DISK_PRIVATE_H

#include <pthread.h>

#include "sim_disk.h"

#define NEVER	 UINT64_MAX
#define SECTOR	 512u
#define BLOCK	 4096u
#define ROOT	 0u
#define NO_INODE UINT32_MAX

struct write {
	uint64_t submit, complete, durable; /* operations; NEVER */
	uint64_t gone;			    /* killed with its process before it was sent */
	uint64_t offset, bytes;		    /* bytes 0: a size change to `offset` */
	uint8_t *first;			    /* memory at submit; NULL = zeros */
	uint8_t *second;		    /* what went to the device, when not the same */
	bool direct, size_change;
};

struct inode {
	bool folder;
	uint8_t *base, *data;
	uint64_t base_size, size, room;
	uint64_t synced_size; /* an fsync covered the blocks below */
	struct write **writes;
	uint32_t writes_count, writes_max;
};

enum name_kind { NAME_LINK, NAME_RENAME, NAME_UNLINK };
struct name_op {
	enum name_kind kind;
	uint64_t at, durable;
	uint32_t folder, inode;
	char *name, *to;
};

struct entry {
	uint32_t folder, inode;
	char *name;
};

struct names {
	struct entry *entries;
	uint32_t count, max;
};

struct file {
	uint32_t inode;
	bool used, direct, locked;
};

/* For explaining only. */
struct moment {
	uint64_t began, ended;
	const char *what;
};

struct sim_disk {
	struct hfb_env env;
	pthread_mutex_t lock;
	uint64_t now, seed;
	bool dead;
	struct inode *inodes;
	uint32_t inodes_count, inodes_max;
	struct names base_names, names;
	struct name_op *name_ops;
	uint32_t name_ops_count, name_ops_max;
	struct file files[1024];
	struct moment *moments;
	uint32_t moments_count, moments_max;
	uint64_t breaches;
	const char *breach;
	struct sim_disk_counts counts;
	struct sim_io *ios;
};

struct flight {
	struct hfb_io_op op;
	struct write *write;
	uint64_t began;
	uint32_t delay;
	uint32_t inode;
	int32_t result;
};

struct sim_io {
	struct hfb_io io;
	struct sim_io *next;
	uint32_t depth, prepared_count, flights_count;
	struct hfb_io_op *prepared;
	struct flight *flights;
};

/* sim_disk_calls.c */
extern const struct hfb_env_ops sim_disk_ops;

/* sim_disk_state.c */
/* A rule of the user's was broken. */
void sim_breach(struct sim_disk *d, const char *what);
struct entry *sim_names_find(struct names *names, uint32_t folder, const char *name);
void sim_names_put(struct names *names, uint32_t folder, const char *name, uint32_t inode);
void sim_names_apply(struct names *names, const struct name_op *op);
void sim_names_free(struct names *names);
/* Do it, and remember. */
void sim_name_op(struct sim_disk *d, enum name_kind kind, uint32_t folder, const char *name,
		 const char *to, uint32_t inode);
/* What was done to names in @folder is durable now; NO_INODE: in all. */
void sim_sync_names(struct sim_disk *d, uint32_t folder);
/* Folder of @path and its last name. 0 or -errno. */
int sim_path_walk(struct sim_disk *d, const char *path, uint32_t *ret_folder, char *ret_name,
		  size_t bytes);
/* What has that name; NULL: the root, which has none. 0 or -errno. */
int sim_path_entry(struct sim_disk *d, const char *path, struct entry **ret_entry);
/* An inode's number, or -errno. */
int sim_path_inode(struct sim_disk *d, const char *path);
uint32_t sim_inode_new(struct sim_disk *d, bool folder);
/* Into memory that grows. @from NULL: zeros. */
void sim_put_bytes(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t offset,
		   const uint8_t *from, uint64_t bytes);
void sim_set_size(uint8_t **data, uint64_t *size, uint64_t *room, uint64_t to);
bool sim_all_zero(const uint8_t *at, uint64_t bytes);
/* Remember a write; whoever calls says when it was complete. */
struct write *sim_write_new(struct sim_disk *d, uint32_t inode, uint64_t offset, const void *from,
			    uint64_t bytes, bool direct);
void sim_moment_note(struct sim_disk *d, const char *what, uint64_t began);
/* A flush of the device or a sync of the file that began at @began ends now. */
void sim_sync_writes(struct sim_disk *d, uint32_t inode, uint64_t began, bool flush);
struct inode *sim_inode_of(struct sim_disk *d, int fd, uint32_t *ret_number);
void sim_check_direct(struct sim_disk *d, int fd, const void *memory, uint64_t bytes, uint64_t at);

/* sim_disk_io.c */
int sim_io_create(struct hfb_env *env, const struct hfb_io_config *config, struct hfb_io **ret_io,
		  struct hfb_err *err);
void sim_io_destroy(struct hfb_io *base);
int sim_io_enable(struct hfb_io *io);
int sim_io_file(struct hfb_io *io, uint32_t slot, int fd);
int sim_io_buffer(struct hfb_io *io, uint32_t slot, void *memory, size_t size);
bool sim_io_prepare(struct hfb_io *base, const struct hfb_io_op *op);
int sim_io_submit(struct hfb_io *base);
uint32_t sim_io_reap(struct hfb_io *base, struct hfb_io_done *done, uint32_t max);
/* The device has done it. */
void sim_flight_write(struct sim_disk *d, struct flight *f);

static inline struct sim_disk *
sim_disk_of(struct hfb_env *env)
{
	return (struct sim_disk *)env;
}

static inline bool
sim_drawn(uint64_t *random, uint32_t chance)
{
	return (sim_random(random) >> 20) % 256 < chance;
}

#endif
