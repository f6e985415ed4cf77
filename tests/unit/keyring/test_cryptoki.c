/* Our own few lines of PKCS#11 against p11-kit's whole header: the same bytes in the same places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The tags of p11-kit's structures are ours as well. */
#define ck_version our_version
#define ck_token_info our_token_info
#define ck_info our_info
#define ck_slot_info our_slot_info
#define ck_attribute our_attribute
#define ck_mechanism our_mechanism
#define ck_rv our_rv
#define ck_initialize_args our_initialize_args
#define ck_functions our_functions
#include "keyring/cryptoki.h"
#undef ck_version
#undef ck_token_info
#undef ck_info
#undef ck_slot_info
#undef ck_attribute
#undef ck_mechanism
#undef ck_rv
#undef ck_initialize_args
#undef ck_functions

static const unsigned long OURS[] = {
#define NUMBERS                                                                                                                                                                \
    CKR_OK, CKR_HOST_MEMORY, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ATTRIBUTE_TYPE_INVALID, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_MECHANISM_INVALID, CKR_PIN_INCORRECT,          \
        CKR_PIN_INVALID, CKR_PIN_LEN_RANGE, CKR_PIN_EXPIRED, CKR_PIN_LOCKED, CKR_SESSION_HANDLE_INVALID, CKR_TEMPLATE_INCONSISTENT, CKR_TOKEN_NOT_PRESENT,                        \
        CKR_TOKEN_WRITE_PROTECTED, CKR_USER_ALREADY_LOGGED_IN, CKR_USER_NOT_LOGGED_IN, CKR_USER_PIN_NOT_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED,                               \
        CKR_CRYPTOKI_ALREADY_INITIALIZED, CKF_OS_LOCKING_OK, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED, CKU_USER, CKU_CONTEXT_SPECIFIC, CKA_ALWAYS_AUTHENTICATE, CKO_PUBLIC_KEY,           \
        CKO_PRIVATE_KEY, CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_ID, CKA_SENSITIVE, CKA_SIGN, CKA_VERIFY, CKA_EXTRACTABLE, CKA_EC_PARAMS, CKA_EC_POINT,                 \
        CKM_EC_KEY_PAIR_GEN, CKM_ECDSA
    NUMBERS};

/* From here on the names are p11-kit's. */
#undef CKR_OK
#undef CKR_HOST_MEMORY
#undef CKR_SLOT_ID_INVALID
#undef CKR_GENERAL_ERROR
#undef CKR_FUNCTION_FAILED
#undef CKR_ATTRIBUTE_TYPE_INVALID
#undef CKR_DEVICE_ERROR
#undef CKR_DEVICE_MEMORY
#undef CKR_DEVICE_REMOVED
#undef CKR_MECHANISM_INVALID
#undef CKR_PIN_INCORRECT
#undef CKR_PIN_INVALID
#undef CKR_PIN_LEN_RANGE
#undef CKR_PIN_EXPIRED
#undef CKR_PIN_LOCKED
#undef CKR_SESSION_HANDLE_INVALID
#undef CKR_TEMPLATE_INCONSISTENT
#undef CKR_TOKEN_NOT_PRESENT
#undef CKR_TOKEN_WRITE_PROTECTED
#undef CKR_USER_ALREADY_LOGGED_IN
#undef CKR_USER_NOT_LOGGED_IN
#undef CKR_USER_PIN_NOT_INITIALIZED
#undef CKR_CRYPTOKI_NOT_INITIALIZED
#undef CKR_CRYPTOKI_ALREADY_INITIALIZED
#undef CKF_OS_LOCKING_OK
#undef CKF_RW_SESSION
#undef CKF_SERIAL_SESSION
#undef CKF_USER_PIN_FINAL_TRY
#undef CKF_USER_PIN_LOCKED
#undef CKU_USER
#undef CKU_CONTEXT_SPECIFIC
#undef CKA_ALWAYS_AUTHENTICATE
#undef CKO_PUBLIC_KEY
#undef CKO_PRIVATE_KEY
#undef CKA_CLASS
#undef CKA_TOKEN
#undef CKA_PRIVATE
#undef CKA_LABEL
#undef CKA_ID
#undef CKA_SENSITIVE
#undef CKA_SIGN
#undef CKA_VERIFY
#undef CKA_EXTRACTABLE
#undef CKA_EC_PARAMS
#undef CKA_EC_POINT
#undef CKM_EC_KEY_PAIR_GEN
#undef CKM_ECDSA
#include <p11-kit/pkcs11.h>

static const unsigned long THEIRS[] = {NUMBERS};

static void numbers(void **state) {
    assert_int_equal(sizeof OURS, sizeof THEIRS);
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
        if (OURS[i] != THEIRS[i])
            fail_msg("number %zu: 0x%lx, and 0x%lx in the header", i, OURS[i], THEIRS[i]);
}

static void shapes(void **state) {
#define SAME(ours, theirs) assert_int_equal(offsetof(struct our_functions, ours), offsetof(CK_FUNCTION_LIST, theirs))
    SAME(initialize, C_Initialize);
    SAME(finalize, C_Finalize);
    SAME(get_info, C_GetInfo);
    SAME(get_slot_info, C_GetSlotInfo);
    SAME(get_slot_list, C_GetSlotList);
    SAME(get_token_info, C_GetTokenInfo);
    SAME(open_session, C_OpenSession);
    SAME(close_session, C_CloseSession);
    SAME(login, C_Login);
    SAME(destroy_object, C_DestroyObject);
    SAME(get_attribute_value, C_GetAttributeValue);
    SAME(find_objects_init, C_FindObjectsInit);
    SAME(find_objects, C_FindObjects);
    SAME(find_objects_final, C_FindObjectsFinal);
    SAME(sign_init, C_SignInit);
    SAME(sign, C_Sign);
    SAME(generate_key_pair, C_GenerateKeyPair);
#undef SAME
#define SAME(ours, theirs) assert_int_equal(offsetof(struct our_token_info, ours), offsetof(CK_TOKEN_INFO, theirs))
    SAME(manufacturer, manufacturerID);
    SAME(model, model);
    SAME(serial, serialNumber);
    SAME(flags, flags);
    SAME(hardware, hardwareVersion);
    SAME(time, utcTime);
#undef SAME
    assert_int_equal(offsetof(struct our_info, manufacturer), offsetof(CK_INFO, manufacturerID));
    assert_int_equal(offsetof(struct our_info, description), offsetof(CK_INFO, libraryDescription));
    assert_int_equal(offsetof(struct our_info, version), offsetof(CK_INFO, libraryVersion));
    assert_int_equal(sizeof(struct our_info), sizeof(CK_INFO));
    assert_int_equal(offsetof(struct our_slot_info, manufacturer), offsetof(CK_SLOT_INFO, manufacturerID));
    assert_int_equal(sizeof(struct our_slot_info), sizeof(CK_SLOT_INFO));
    assert_int_equal(sizeof(struct our_token_info), sizeof(CK_TOKEN_INFO));
    assert_int_equal(sizeof(struct our_attribute), sizeof(CK_ATTRIBUTE));
    assert_int_equal(sizeof(struct our_mechanism), sizeof(CK_MECHANISM));
    assert_int_equal(sizeof(struct our_initialize_args), sizeof(CK_C_INITIALIZE_ARGS));
    assert_int_equal(offsetof(struct our_initialize_args, flags), offsetof(CK_C_INITIALIZE_ARGS, flags));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers), cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
