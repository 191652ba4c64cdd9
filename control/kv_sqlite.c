/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in one SQLite file. WAL with synchronous=FULL: a change is on disk
 * when the call returns, and a process killed at any moment leaves either the
 * old value or the new one.
 *
 *	kv(key, revision, value)	what is kept
 *	counter(revision)		one row: the last revision given out
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "bug.h"
#include "kv.h"

#define APPLICATION_ID 0x48464243 /* "HFBC" */
#define SCHEMA_VERSION 1
#define BUSY_MS	       2000

enum { GET, EACH, BEGIN, COMMIT, ROLLBACK, NEXT, INSERT, UPDATE, REMOVE, STATEMENTS };

static const char *const statement_sql[STATEMENTS] = {
	[GET] = "SELECT key, revision, value FROM kv WHERE key = ?1",
	[EACH] = "SELECT key, revision, value FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key",
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[NEXT] = "UPDATE counter SET revision = revision + 1 RETURNING revision",
	[INSERT] = ("INSERT INTO kv(key, revision, value) VALUES(?1, ?2, ?3) "
		    "ON CONFLICT(key) DO NOTHING"),
	[UPDATE] = "UPDATE kv SET revision = ?2, value = ?3 WHERE key = ?1 AND revision = ?4",
	[REMOVE] = "DELETE FROM kv WHERE key = ?1 AND revision = ?4",
};

struct sqlite_kv {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	char path[4096];
};

static int
sqlite_error(struct sqlite_kv *s, const char *doing, struct hfb_err *err)
{
	int code = s->db != NULL ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
	const char *text = s->db != NULL ? sqlite3_errmsg(s->db) : "out of memory";
	int r = -EIO;

	switch (code & 0xff) {
	case SQLITE_NOMEM:
		r = -ENOMEM;
		break;
	case SQLITE_FULL:
		r = -ENOSPC;
		break;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return hfb_err_set(err, -EIO,
				   "%s is damaged (%s); move it away, hfbus-control then "
				   "takes the topics over from hfbusd",
				   s->path, text);
	}
	return hfb_err_set(err, r, "cannot %s %s: %s", doing, s->path, text);
}

static void
sqlite_close(void *state)
{
	struct sqlite_kv *s = state;

	if (s == NULL)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(s->statements[i]);
	sqlite3_close(s->db);
	free(s);
}

/* Binds that fail do so for memory only, and the step after them says so. */
static sqlite3_stmt *
begin(struct sqlite_kv *s, int which)
{
	sqlite3_stmt *st = s->statements[which];

	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return st;
}

static int
run(struct sqlite_kv *s, int which, const char *doing, struct hfb_err *err)
{
	sqlite3_stmt *st = begin(s, which);
	int code = sqlite3_step(st);
	int r = code == SQLITE_DONE ? 0 : sqlite_error(s, doing, err);

	sqlite3_reset(st);
	return r;
}

static int
bind_text(struct sqlite_kv *s, sqlite3_stmt *st, int column, const char *text, const char *doing,
	  struct hfb_err *err)
{
	if (sqlite3_bind_text(st, column, text, -1, SQLITE_STATIC) != SQLITE_OK)
		return sqlite_error(s, doing, err);
	return 0;
}

static int
item_of(struct sqlite_kv *s, sqlite3_stmt *st, struct hfb_kv_item *ret_item, struct hfb_err *err)
{
	const char *key = (const char *)sqlite3_column_text(st, 0);
	const char *value = (const char *)sqlite3_column_text(st, 2);

	if (key == NULL || value == NULL)
		return sqlite_error(s, "read", err);
	*ret_item = (struct hfb_kv_item){
		.key = key,
		.value = value,
		.revision = (uint64_t)sqlite3_column_int64(st, 1),
	};
	return 0;
}

static int
sqlite_get(void *state, const char *key, struct hfb_kv_item *ret_item, struct hfb_err *err)
{
	struct sqlite_kv *s = state;
	sqlite3_stmt *st = begin(s, GET);
	int code, r;

	r = bind_text(s, st, 1, key, "read", err);
	if (r < 0)
		return r;
	code = sqlite3_step(st);
	if (code == SQLITE_ROW) /* reset by the next call: the item is lent until then */
		return item_of(s, st, ret_item, err);
	r = code == SQLITE_DONE ? hfb_err_set(err, -ENOENT, "%s is not known", key)
				: sqlite_error(s, "read", err);
	sqlite3_reset(st);
	return r;
}

static int
sqlite_each(void *state, const char *prefix, hfb_kv_fn *fn, void *arg, struct hfb_err *err)
{
	struct sqlite_kv *s = state;
	sqlite3_stmt *st = begin(s, EACH);
	char after[64];
	size_t n = strlen(prefix);
	int code, r;

	/* All keys below the prefix with its last byte raised. */
	hfb_assert(n > 0);
	hfb_assert(n < sizeof(after));
	strcpy(after, prefix);
	after[n - 1]++;
	r = bind_text(s, st, 1, prefix, "read", err);
	if (r == 0)
		r = bind_text(s, st, 2, after, "read", err);
	while (r == 0 && (code = sqlite3_step(st)) != SQLITE_DONE) {
		struct hfb_kv_item item;

		r = code == SQLITE_ROW ? item_of(s, st, &item, err) : sqlite_error(s, "read", err);
		if (r == 0)
			fn(arg, &item);
	}
	sqlite3_reset(st);
	return r;
}

static int
next_revision(struct sqlite_kv *s, uint64_t *ret_revision, struct hfb_err *err)
{
	sqlite3_stmt *st = begin(s, NEXT);
	int code = sqlite3_step(st);
	int r = 0;

	if (code == SQLITE_ROW) {
		*ret_revision = (uint64_t)sqlite3_column_int64(st, 0);
		code = sqlite3_step(st);
	} else if (code == SQLITE_DONE) {
		r = hfb_err_set(err, -EIO, "%s has lost its revision counter", s->path);
	}
	if (r == 0 && code != SQLITE_DONE)
		r = sqlite_error(s, "write", err);
	sqlite3_reset(st);
	return r;
}

static int
change(struct sqlite_kv *s, const char *key, uint64_t expected_revision, const char *value,
       uint64_t revision, struct hfb_err *err)
{
	int which = value == NULL ? REMOVE : expected_revision == 0 ? INSERT : UPDATE;
	sqlite3_stmt *st = begin(s, which);
	int r = bind_text(s, st, 1, key, "write", err);

	if (r == 0 && value != NULL)
		r = bind_text(s, st, 3, value, "write", err);
	if (r < 0)
		return r;
	if (which != REMOVE)
		sqlite3_bind_int64(st, 2, (sqlite3_int64)revision);
	if (which != INSERT)
		sqlite3_bind_int64(st, 4, (sqlite3_int64)expected_revision);
	if (sqlite3_step(st) != SQLITE_DONE)
		r = sqlite_error(s, "write", err);
	sqlite3_reset(st);
	if (r == 0 && sqlite3_changes(s->db) != 1)
		r = hfb_err_set(err, -ESTALE, "%s was changed by another one meanwhile", key);
	return r;
}

static int
sqlite_cas(void *state, const char *key, uint64_t expected_revision, const char *value,
	   uint64_t *ret_revision, struct hfb_err *err)
{
	struct sqlite_kv *s = state;
	uint64_t revision = 0;
	int r;

	sqlite3_reset(s->statements[GET]); /* a lent item would hold the old snapshot */
	r = run(s, BEGIN, "write", err);
	if (r < 0)
		return r;
	r = next_revision(s, &revision, err);
	if (r == 0)
		r = change(s, key, expected_revision, value, revision, err);
	if (r == 0)
		r = run(s, COMMIT, "write", err);
	if (r < 0) {
		/* Some errors have rolled back already; then there is nothing to undo. */
		if (!sqlite3_get_autocommit(s->db))
			(void)run(s, ROLLBACK, "roll back", NULL);
		return r;
	}
	*ret_revision = revision;
	return 0;
}

static const struct hfb_kv_driver sqlite_driver = {
	.get = sqlite_get,
	.each = sqlite_each,
	.cas = sqlite_cas,
	.close = sqlite_close,
};

static int
pragma_int(struct sqlite_kv *s, const char *sql, int *ret_value, struct hfb_err *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK ||
	    sqlite3_step(st) != SQLITE_ROW)
		r = sqlite_error(s, "open", err);
	else
		*ret_value = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return r;
}

static int
prepare_file(struct sqlite_kv *s, struct hfb_err *err)
{
	static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
				       "PRAGMA trusted_schema = OFF;";
	char schema[512];
	int id = 0, version = 0, r;

	if (sqlite3_exec(s->db, settings, NULL, NULL, NULL) != SQLITE_OK)
		return sqlite_error(s, "open", err);
	r = pragma_int(s, "PRAGMA application_id", &id, err);
	if (r == 0)
		r = pragma_int(s, "PRAGMA user_version", &version, err);
	if (r < 0)
		return r;
	if (id == APPLICATION_ID && version == SCHEMA_VERSION)
		return 0;
	if (id == APPLICATION_ID)
		return hfb_err_set(err, -EPROTO,
				   "%s is of format %d, this program knows %d; "
				   "use the newer hfbus-control",
				   s->path, version, SCHEMA_VERSION);
	if (id != 0 || version != 0)
		return hfb_err_set(err, -EPROTO,
				   "%s is another program's database; "
				   "name another folder with --data",
				   s->path);
	/* One transaction: killed in the midst of it, the file is empty again. */
	sqlite3_snprintf(sizeof(schema), schema,
			 "BEGIN IMMEDIATE;"
			 "CREATE TABLE kv(key TEXT PRIMARY KEY, revision INTEGER NOT NULL, "
			 "value TEXT NOT NULL) WITHOUT ROWID, STRICT;"
			 "CREATE TABLE counter(revision INTEGER NOT NULL) STRICT;"
			 "INSERT INTO counter VALUES(0);"
			 "PRAGMA application_id = %d; PRAGMA user_version = %d;"
			 "COMMIT;",
			 APPLICATION_ID, SCHEMA_VERSION);
	if (sqlite3_exec(s->db, schema, NULL, NULL, NULL) != SQLITE_OK) {
		r = sqlite_error(s, "make", err);
		if (!sqlite3_get_autocommit(s->db))
			(void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		return r;
	}
	return 0;
}

int
hfb_kv_open_sqlite(const char *path, struct hfb_kv **ret_kv, struct hfb_err *err)
{
	struct sqlite_kv *s = calloc(1, sizeof(*s));
	int r = 0;

	if (s == NULL)
		return hfb_err_set(err, -ENOMEM, "out of memory");
	strncpy(s->path, path, sizeof(s->path) - 1);
	if (sqlite3_open_v2(path, &s->db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW,
			    NULL) != SQLITE_OK) {
		r = sqlite_error(s, "open", err);
		goto fail;
	}
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_busy_timeout(s->db, BUSY_MS);
	r = prepare_file(s, err);
	for (int i = 0; r == 0 && i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->statements[i], NULL) != SQLITE_OK)
			r = sqlite_error(s, "open", err);
	if (r == 0) {
		r = hfb_kv_create(&sqlite_driver, s, ret_kv);
		if (r < 0)
			hfb_err_set(err, r, "out of memory");
	}
	if (r == 0)
		return 0;
fail:
	sqlite_close(s);
	return r;
}
