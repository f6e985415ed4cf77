/* backup: `musterd backup`: the data directory of a server, whether it runs or not, as one encrypted file.
 *
 * What is in it is what a power cut at one instant would have left: both databases and the vault are of one moment (store/copy.h), and of that
 * moment on nothing waits for this command.  The server's log says that there is a backup before a byte of it is written. */
#ifndef MUSTER_MUSTERD_BACKUP_H
#define MUSTER_MUSTERD_BACKUP_H

#include "musterd/options.h"

int backup_run(const struct options *o, struct err *err);

#endif
