/* title: what ps shows of a process. */
#ifndef MUSTER_MUSTERD_TITLE_H
#define MUSTER_MUSTERD_TITLE_H

/* main() gives its arguments once; the memory they lie in is what the kernel shows. */
void title_init(int argc, char **argv);
/* "musterd: vault".  Overwrites the arguments: whoever wants them afterwards has copies. */
void title_set(const char *process);

#endif
