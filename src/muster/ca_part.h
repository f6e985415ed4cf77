/* ca_part: what the commands of `muster ca` and the installers share. */
#ifndef MUSTER_MUSTER_CA_PART_H
#define MUSTER_MUSTER_CA_PART_H

#include "base/secret.h"
#include "ca/ca.h"
#include "ca/server.h"
#include "muster/command.h"

/* --ca DIR, else MUSTER_CA_DIR, else "ca". */
const char *ca_part_dir(const struct invocation *in);
/* --passphrase-file FILE ("-": the first line of standard input), else asked on the terminal, else MUSTER_EUSAGE. */
int ca_part_passphrase(const struct invocation *in, bool twice, struct secret *out, struct err *err) MUSTER_MUST_CHECK;
/* Opens the CA and loads its issuing key, or the root's. */
/* Has the key that the command needs: by --ca-key, as the directory says, or by the passphrase, which is asked for where it is needed. */
int ca_part_unlock(const struct invocation *in, struct ca *ca, bool root_key, struct err *err) MUSTER_MUST_CHECK;
/* --key as a place where keys are made; NULL: it names a kind, or is left out. */
const char *ca_part_place(const struct invocation *in, const char *option);
int ca_part_open(const struct invocation *in, bool root_key, struct ca *out, struct err *err) MUSTER_MUST_CHECK;
/* --key p256|p384|rsa2048|rsa3072|rsa4096|ed25519; the least that `ca` accepts for itself is stronger. */
int ca_part_kind(const struct invocation *in, bool of_ca, enum key_kind *kind, int *bits, struct err *err) MUSTER_MUST_CHECK;
/* --country, --state, … ; spans into the arguments. */
struct subject ca_part_subject(const struct invocation *in);
/* A length of time such as 20y, or `otherwise` where the option is not given. */
int ca_part_life(const struct invocation *in, const char *option, int64_t otherwise, int64_t *out, struct err *err) MUSTER_MUST_CHECK;
/* --server DIR, --server-ca FILE, --url URL. */
int ca_part_server(const struct invocation *in, struct ca_server *out, struct err *err) MUSTER_MUST_CHECK;
/* The issued certificate as JSON: id, serial, device_id, not_after, warnings; ca NULL: none about its clock. */
json_t *ca_part_issued(const struct ca *ca, const struct ca_issued *issued, struct span device_id);
/* Adds to the object's warnings where this machine's clock is before the CA's begin, or the journal has a time that it has not come to: one of the two is, or was, wrong. */
void ca_part_warn_clock(const struct ca *ca, json_t *object);
/* Prints one object, or with --json JSON. */
int ca_part_show(const struct invocation *in, const json_t *object, struct err *err) MUSTER_MUST_CHECK;
/* Writes PEM to --output, or to standard output where none is given; with --json it then stands in the object. */
int ca_part_put(const struct invocation *in, struct span pem, json_t *object, struct err *err) MUSTER_MUST_CHECK;
/* The same of what is called otherwise there than "certificate". */
int ca_part_put_as(const struct invocation *in, const char *member, struct span pem, json_t *object, struct err *err) MUSTER_MUST_CHECK;

static inline void ca_server_fini_cleanup__(struct ca_server *s) { ca_server_fini(s); }

#endif
