/* event_memory: where libevent's small blocks lie.
 *
 * For each number that a descriptor ever had libevent keeps 24 bytes until its base is freed (evmap.c).  Made as connections come, these lie among
 * the connections' own memory, and once those have gone each still holds a page of the heap: 4,000 connections left 15 MiB behind.  Here they lie
 * together. */
#ifndef MUSTER_LOOP_EVENT_MEMORY_H
#define MUSTER_LOOP_EVENT_MEMORY_H

/* Before anything else of libevent is called in this process; again: nothing.  From any thread. */
void event_memory_init(void);

#endif
