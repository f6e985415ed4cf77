/* Revocation lists that operators hand over: what is taken has entries with serial numbers and reasons, or an error for each; reading it again
 * says the same. */
#include "fuzz.h"
#include "pki/revocation_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    CLEANUP(revocation_file_free) struct revocation_file *c = NULL, *again = NULL;
    if (revocation_file_read(span_of(data, n), &c, NULL))
        return 0;
    struct cert nobody = {.x = X509_new()};
    MUST(nobody.x && revocation_file_lists(c) >= 1 && revocation_file_lists(c) <= REVOCATION_FILE_LISTS);
    MUST(revocation_file_read(span_of(data, n), &again, NULL) == 0 && revocation_file_lists(again) == revocation_file_lists(c));
    for (size_t i = 0; i < revocation_file_lists(c); i++) {
        MUST(!revocation_file_is_of(c, i, &nobody));
        uint8_t id[CRL_KEY_ID_LEN] = {0}, other[CRL_KEY_ID_LEN] = {0};
        MUST(revocation_file_key_id(c, i, id) == revocation_file_key_id(again, i, other) && memcmp(id, other, sizeof id) == 0);
        struct revocation_file_facts f, g;
        if (revocation_file_facts(c, i, &f, NULL) == 0) {
            MUST(f.number_n <= REVOCATION_FILE_NUMBER_MAX && (f.number_n < 2 || f.number[0]));
            MUST(revocation_file_facts(again, i, &g, NULL) == 0 && hash_eq(&f.hash, &g.hash) && f.this_update == g.this_update && f.next_update == g.next_update);
        }
        MUST(revocation_file_entries(again, i) == revocation_file_entries(c, i));
        for (size_t k = 0; k < revocation_file_entries(c, i); k++) {
            struct revocation_file_entry e;
            if (revocation_file_entry_at(c, i, k, &e, NULL) == 0)
                MUST(e.serial.n >= 1 && e.serial.n <= REVOCATION_FILE_SERIAL_MAX && e.reason >= 0 && e.reason <= 10);
        }
    }
    X509_free(nobody.x);
    return 0;
}
