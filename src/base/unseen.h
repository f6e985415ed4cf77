/* unseen: characters that nobody sees.  Two device IDs that differ by them alone look like one on every screen and label, and are two devices. */
#ifndef MUSTER_BASE_UNSEEN_H
#define MUSTER_BASE_UNSEEN_H

#include "base/err.h"
#include "base/span.h"

/* Whether valid UTF-8 holds a format character (Unicode's category Cf: joiners, marks of direction, tags) or one that is shown as nothing
 * (Default_Ignorable_Code_Point: fillers, selectors of variants); *code: the first of them.  Control characters are span_has_control's. */
bool unseen_find(struct span text, uint32_t *code);
/* 0, or `code` with a text that names it; what: "The device ID". */
int unseen_refuse(struct span text, const char *what, int code, struct err *err) MUSTER_MUST_CHECK;

#endif
