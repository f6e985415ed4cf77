/* subject: the parts of a subject's name that Muster writes (RFC 5280, 4.1.2.4, appendix A.1). */
#ifndef MUSTER_PKI_SUBJECT_H
#define MUSTER_PKI_SUBJECT_H

#include "base/span.h"

/* UTF-8 without control characters; SPAN_NONE: left out.  Lengths are RFC 5280's: country 2 letters, state and locality 128 characters, the others 64. */
struct subject {
    struct span country;             /* C */
    struct span state;               /* ST */
    struct span locality;            /* L */
    struct span organisation;        /* O */
    struct span organisational_unit; /* OU: "Devices" in device certificates that the server issues, as OTA Connect's had */
    struct span serial_number;       /* serialNumber: of the device, not of the certificate */
    struct span common_name;         /* CN */
};

#endif
