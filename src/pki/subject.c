/* subject: see subject.h. */
#include "pki/subject.h"

#include <openssl/err.h>

#include "pki/key.h"
#include "pki/pki.h"

static int add(X509_NAME *name, const char *field, struct span value, struct err *err) {
    if (value.n == 0)
        return 0;
    if (!span_is_utf8(value) || span_has_control(value))
        return err_set(err, MUSTER_EINVALID, "The %s of the subject is not UTF-8 without control characters.", field);
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, value.p, (int)value.n, -1, 0) == 1)
        return 0;
    ERR_clear_error();
    return err_set(err, MUSTER_EINVALID, "The %s of the subject is too long%s.", field, field[0] == 'C' && !field[1] ? ", or not two letters" : "");
}

int pki_name_fill(X509_NAME *name, const struct subject *s, struct err *err) {
    const struct {
        const char *field;
        struct span value;
    } parts[] = {{"C", s->country},        {"ST", s->state},  {"L", s->locality}, {"O", s->organisation}, {"OU", s->organisational_unit}, {"serialNumber", s->serial_number},
                 {"CN", s->common_name}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int rc = add(name, parts[i].field, parts[i].value, err);
        if (rc)
            return rc;
    }
    return 0;
}
