/* commands: the table of musterd's commands; options.h. */
#include "base/shell.h"
#include "musterd/backup.h"
#include "musterd/confinement_test.h"
#include "musterd/export.h"
#include "musterd/init.h"
#include "musterd/operator.h"
#include "musterd/options.h"
#include "musterd/rekey.h"
#include "musterd/restore.h"
#include "musterd/serve.h"

#define BIT(option) (1U << (option))
#define PLACES (BIT(OPT_HOST) | BIT(OPT_LISTEN) | BIT(OPT_ADMIN))

const struct command COMMANDS[] = {
    {"init", "", NULL, BIT(OPT_DATA) | PLACES | BIT(OPT_MASTER_KEY) | BIT(OPT_MASTER_KEY_FILE) | BIT(OPT_JSON), BIT(OPT_DATA), false, init_run,
     "Makes a data directory: configuration, vault, databases, and the first owner's token.",
     "One that was cut off is run again; one on a directory that is complete changes nothing and fails."},
    {"serve", "", NULL, BIT(OPT_DATA) | BIT(OPT_CONFIG) | PLACES, BIT(OPT_DATA), false, serve_run, "Runs the server.",
     "Prints one line `ready gateway=URL admin=URL` on stdout once devices and operators can connect; events go to stderr."},
    {"vault", "export", NULL, BIT(OPT_DATA) | BIT(OPT_ACCOUNT) | BIT(OPT_PASSPHRASE_FILE) | BIT(OPT_OUTPUT) | BIT(OPT_JSON), BIT(OPT_DATA) | BIT(OPT_ACCOUNT) | BIT(OPT_OUTPUT),
     false, export_run, "Writes the private key of an account's fleet root, encrypted under a passphrase, and its certificate.",
     "The server has to be running; the export is recorded in the account's audit log."},
    {"vault", "status", NULL, BIT(OPT_DATA) | BIT(OPT_CONFIG) | BIT(OPT_JSON), BIT(OPT_DATA), false, rekey_status_run,
     "Prints where the vault's master key comes from, when it was changed, which private keys the vault holds, and whether it answers.",
     "Of a server that does not run it says what can be known without the master key."},
    {"vault", "rekey", NULL, BIT(OPT_DATA) | BIT(OPT_CONFIG) | BIT(OPT_MASTER_KEY) | BIT(OPT_MASTER_KEY_FILE) | BIT(OPT_PASSPHRASE_FILE) | BIT(OPT_JSON), BIT(OPT_DATA), false, rekey_run,
     "Puts the vault under another master key: a new one of the same kind, or of the one that --master-key names.",
     "The server may run meanwhile, and goes on; cut off at any moment, the vault opens with the old key or the new one. The master_key lines of musterd.conf are changed where the source is another. DIR/vault/master.key is wiped and removed where the vault is under a key from elsewhere then. Backups that were made without the key need the old one still: copy it before, or make a new backup."},
    {"backup", "", NULL, BIT(OPT_DATA) | BIT(OPT_OUTPUT) | BIT(OPT_PASSPHRASE_FILE) | BIT(OPT_RECIPIENT) | BIT(OPT_WITHOUT_MASTER_KEY) | BIT(OPT_JSON), BIT(OPT_DATA) | BIT(OPT_OUTPUT),
     false, backup_run, "Writes the data directory as it is at one moment into one encrypted file.",
     "The server may run meanwhile, and waits for nothing. Whoever has the file and what decrypts it has the fleet's keys; the backup is recorded in the server's audit log."},
    {"restore", "", "FILE", BIT(OPT_DATA) | BIT(OPT_PASSPHRASE_FILE) | BIT(OPT_RECIPIENT_KEY) | BIT(OPT_JSON), BIT(OPT_DATA), false, restore_run,
     "Makes the data directory that a backup holds, where there is none yet.",
     "The server starts in recovery: nothing is issued until `muster recovery finish`. One that was cut off is run again."},
    {"token", "reset", NULL, BIT(OPT_DATA) | BIT(OPT_JSON), BIT(OPT_DATA), false, operator_token_reset,
     "Revokes every token of the server's owners and writes a new one to DIR/admin.token.", "A running server sees it at once."},
    {"clock", "accept", NULL, BIT(OPT_DATA) | BIT(OPT_JSON), BIT(OPT_DATA), false, operator_clock_accept,
     "Takes the present time as right although the log holds a later one.", "For a clock that ran ahead for a while and was put right, or that was set (`clock_was_set` in `muster status`) and is right; recorded."},
    {"completion", "", SHELLS, 0, 0, false, completion_run, "Prints the shell's script for the completion of command lines.", NULL},
    {"self-test-confinement", "", "vault|control|gateway|courier|token", BIT(OPT_DATA) | BIT(OPT_CONFIG), BIT(OPT_DATA), true, confinement_test_run,
     "Confines this process as that one would be, and tries what is forbidden.", NULL},
    {"help-man", "", NULL, 0, 0, true, options_man, "Prints the source of musterd(8).", NULL},
    {"config-man", "", NULL, 0, 0, true, options_config_man, "Prints the source of musterd.conf(5).", NULL},
};
const size_t COMMANDS_N = sizeof COMMANDS / sizeof *COMMANDS;
