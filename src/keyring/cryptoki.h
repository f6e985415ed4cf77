/* cryptoki: as much of PKCS#11 2.40 (OASIS, pkcs11t.h) as the keyring needs, so that a device's build needs nobody's header.  tests/unit/keyring holds it against
 * p11-kit's. */
#ifndef MUSTER_KEYRING_CRYPTOKI_H
#define MUSTER_KEYRING_CRYPTOKI_H

#define CKR_OK 0x0ul
#define CKR_HOST_MEMORY 0x2ul
#define CKR_SLOT_ID_INVALID 0x3ul
#define CKR_GENERAL_ERROR 0x5ul
#define CKR_FUNCTION_FAILED 0x6ul
#define CKR_ATTRIBUTE_TYPE_INVALID 0x12ul
#define CKR_DEVICE_ERROR 0x30ul
#define CKR_DEVICE_MEMORY 0x31ul
#define CKR_DEVICE_REMOVED 0x32ul
#define CKR_MECHANISM_INVALID 0x70ul
#define CKR_PIN_INCORRECT 0xa0ul
#define CKR_PIN_INVALID 0xa1ul
#define CKR_PIN_LEN_RANGE 0xa2ul
#define CKR_PIN_EXPIRED 0xa3ul
#define CKR_PIN_LOCKED 0xa4ul
#define CKR_SESSION_HANDLE_INVALID 0xb3ul
#define CKR_TEMPLATE_INCONSISTENT 0xd1ul
#define CKR_TOKEN_NOT_PRESENT 0xe0ul
#define CKR_TOKEN_WRITE_PROTECTED 0xe2ul
#define CKR_USER_ALREADY_LOGGED_IN 0x100ul
#define CKR_USER_NOT_LOGGED_IN 0x101ul
#define CKR_USER_PIN_NOT_INITIALIZED 0x102ul
#define CKR_CRYPTOKI_NOT_INITIALIZED 0x190ul
#define CKR_CRYPTOKI_ALREADY_INITIALIZED 0x191ul

#define CKF_OS_LOCKING_OK 0x2ul
#define CKF_RW_SESSION 0x2ul
#define CKF_SERIAL_SESSION 0x4ul
#define CKF_USER_PIN_FINAL_TRY 0x20000ul
#define CKF_USER_PIN_LOCKED 0x40000ul
#define CKU_USER 1ul
#define CKU_CONTEXT_SPECIFIC 2ul
#define CKO_PUBLIC_KEY 2ul
#define CKO_PRIVATE_KEY 3ul
#define CKA_CLASS 0x0ul
#define CKA_TOKEN 0x1ul
#define CKA_PRIVATE 0x2ul
#define CKA_LABEL 0x3ul
#define CKA_ID 0x102ul
#define CKA_SENSITIVE 0x103ul
#define CKA_SIGN 0x108ul
#define CKA_VERIFY 0x10aul
#define CKA_EXTRACTABLE 0x162ul
#define CKA_EC_PARAMS 0x180ul
#define CKA_EC_POINT 0x181ul
#define CKA_ALWAYS_AUTHENTICATE 0x202ul
#define CKM_EC_KEY_PAIR_GEN 0x1040ul
#define CKM_ECDSA 0x1041ul

struct ck_version {
    unsigned char major, minor;
};
struct ck_token_info {
    unsigned char label[32], manufacturer[32], model[16], serial[16];
    unsigned long flags, numbers[10];
    struct ck_version hardware, firmware;
    unsigned char time[16];
};
struct ck_info {
    struct ck_version cryptoki;
    unsigned char manufacturer[32];
    unsigned long flags;
    unsigned char description[32];
    struct ck_version version;
};
struct ck_slot_info {
    unsigned char description[64], manufacturer[32];
    unsigned long flags;
    struct ck_version hardware, firmware;
};
struct ck_attribute {
    unsigned long type;
    void *value;
    unsigned long n;
};
struct ck_mechanism {
    unsigned long mechanism;
    void *parameter;
    unsigned long n;
};
struct ck_initialize_args {
    void *create, *destroy, *lock, *unlock;
    unsigned long flags;
    void *reserved;
};

typedef unsigned long ck_rv;
struct ck_functions {
    struct ck_version version;
    ck_rv (*initialize)(void *args);
    ck_rv (*finalize)(void *reserved);
    ck_rv (*get_info)(struct ck_info *out);
    void *unused_4[1];
    ck_rv (*get_slot_list)(unsigned char present, unsigned long *slots, unsigned long *n);
    ck_rv (*get_slot_info)(unsigned long slot, struct ck_slot_info *out);
    ck_rv (*get_token_info)(unsigned long slot, struct ck_token_info *out);
    void *unused_8[5];
    ck_rv (*open_session)(unsigned long slot, unsigned long flags, void *application, void *notify, unsigned long *out);
    ck_rv (*close_session)(unsigned long session);
    void *unused_15[4];
    ck_rv (*login)(unsigned long session, unsigned long user, unsigned char *pin, unsigned long n);
    void *unused_20[3];
    ck_rv (*destroy_object)(unsigned long session, unsigned long object);
    void *unused_24[1];
    ck_rv (*get_attribute_value)(unsigned long session, unsigned long object, struct ck_attribute *what, unsigned long n);
    void *unused_26[1];
    ck_rv (*find_objects_init)(unsigned long session, struct ck_attribute *what, unsigned long n);
    ck_rv (*find_objects)(unsigned long session, unsigned long *found, unsigned long most, unsigned long *n);
    ck_rv (*find_objects_final)(unsigned long session);
    void *unused_30[13];
    ck_rv (*sign_init)(unsigned long session, struct ck_mechanism *how, unsigned long key);
    ck_rv (*sign)(unsigned long session, unsigned char *data, unsigned long n, unsigned char *signature, unsigned long *signature_n);
    void *unused_45[15];
    ck_rv (*generate_key_pair)(unsigned long session, struct ck_mechanism *how, struct ck_attribute *public, unsigned long public_n, struct ck_attribute *private, unsigned long private_n,
                               unsigned long *public_key, unsigned long *private_key);
};

#endif
