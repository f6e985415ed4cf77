/* built: when this program was built (SOURCE_DATE_EPOCH, where that is set): no clock is right that says less. */
#ifndef MUSTER_AGENT_BUILT_H
#define MUSTER_AGENT_BUILT_H

#include <stdint.h>

extern const int64_t AGENT_BUILT; /* seconds since 1970 */

#endif
