/* rows: whatever SQL the attacker likes over DIR/registry.db, which a gateway has to be able to write; see attack.h.
 *
 * The statements stand in MUSTER_ATTACK_SQL.  sha256(x) is there as a function, so that hash chains can be continued as Muster does. */
#include <sqlite3.h>
#include <stdio.h>

#include "attack.h"
#include "pki/key.h"

static void sha256(sqlite3_context *c, int n, sqlite3_value **v) {
    struct hash hash;
    hash_of(span_of(sqlite3_value_blob(v[0]), (size_t)sqlite3_value_bytes(v[0])), &hash);
    sqlite3_result_blob(c, hash.b, sizeof hash.b, SQLITE_TRANSIENT);
}

void attack_rows(struct attack *a) {
    char path[4096];
    char *why = NULL;
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/registry.db", a->o->dir);
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (!rc)
        rc = sqlite3_create_function(db, "sha256", 1, SQLITE_UTF8, NULL, sha256, NULL, NULL);
    if (!rc)
        rc = sqlite3_busy_timeout(db, 10000);
    if (!rc)
        rc = sqlite3_exec(db, given("MUSTER_ATTACK_SQL"), NULL, NULL, &why);
    say("rows: %s", rc ? why ? why : sqlite3_errmsg(db) : "written");
    sqlite3_free(why);
    sqlite3_close(db);
}
