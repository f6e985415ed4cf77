/* A PKCS#11 module in front of SoftHSM's, for tests: what it does follows from files in the directory MOODY_DIR, looked at in each call.
 *
 *   away      no token is in any slot, and what was open fails (CKR_DEVICE_REMOVED)
 *   slow      a number: milliseconds that each signature takes
 *   hangs     a signature does not come back
 *   mute      nobody is told which slots there are: that does not come back
 *   readonly  nobody may write: there are no such sessions
 *   lies      a signature is of something else
 *   full      there is no room for another key
 *   locked    the token says that it has locked itself
 *   last      the token says that it locks itself at the next wrong PIN
 *   snapshots a directory: what the token holds after each key that is made or destroyed is copied there, under the length of the record (record_disk.c) at that moment
 *   counted   written: the PIN was tried, a byte a time */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

static CK_FUNCTION_LIST own, *real;

static bool has(const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", getenv("MOODY_DIR"), name);
    return access(path, F_OK) == 0;
}

static long number(const char *name) {
    char path[PATH_MAX], text[32] = "";
    snprintf(path, sizeof path, "%s/%s", getenv("MOODY_DIR"), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(fd);
    return strtol(text, NULL, 10);
}

static void snapshot(void) {
    const char *dir = getenv("MOODY_DIR"), *record = getenv("MUSTER_TEST_RECORD");
    char command[3 * PATH_MAX];
    uint64_t head[2] = {0, 0};
    struct timespec now;
    int fd = record && has("snapshots") ? open(record, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    bool whole = read(fd, head, sizeof head) == sizeof head;
    close(fd);
    snprintf(command, sizeof command, "LD_PRELOAD= cp -a '%s/tokens' '%s/snapshots/%020llu-%010lld%09ld'", dir, dir, (unsigned long long)head[1], (long long)now.tv_sec, now.tv_nsec);
    if (!whole || system(command) != 0)
        abort();
}

static void wait_while(const char *mood) {
    struct timespec pause = {0, 50000000};
    while (has(mood))
        nanosleep(&pause, NULL);
}

static CK_RV get_slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n) {
    wait_while("mute");
    if (!has("away"))
        return real->C_GetSlotList(present, list, n);
    *n = 0;
    return CKR_OK;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify, CK_SESSION_HANDLE *out) {
    if (has("readonly") && flags & CKF_RW_SESSION)
        return CKR_TOKEN_WRITE_PROTECTED;
    return has("away") ? CKR_TOKEN_NOT_PRESENT : real->C_OpenSession(slot, flags, app, notify, out);
}

static CK_RV login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG n) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/counted", getenv("MOODY_DIR"));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, "x", 1) != 1)
            abort();
        close(fd);
    }
    return real->C_Login(s, user, pin, n);
}

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *out) {
    CK_RV rv = real->C_GetTokenInfo(slot, out);
    if (rv == CKR_OK && has("last"))
        out->flags |= CKF_USER_PIN_FINAL_TRY;
    if (rv == CKR_OK && has("locked"))
        out->flags |= CKF_USER_PIN_LOCKED;
    return rv;
}

static CK_RV generate(CK_SESSION_HANDLE s, CK_MECHANISM *how, CK_ATTRIBUTE *pub, CK_ULONG n_pub, CK_ATTRIBUTE *priv, CK_ULONG n_priv, CK_OBJECT_HANDLE *p, CK_OBJECT_HANDLE *q) {
    CK_RV rv = has("away") ? CKR_DEVICE_REMOVED : has("full") ? CKR_DEVICE_MEMORY : real->C_GenerateKeyPair(s, how, pub, n_pub, priv, n_priv, p, q);
    snapshot();
    return rv;
}

static CK_RV destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object) {
    CK_RV rv = real->C_DestroyObject(s, object);
    snapshot();
    return rv;
}

static CK_RV find(CK_SESSION_HANDLE s, CK_ATTRIBUTE *what, CK_ULONG n) { return has("away") ? CKR_DEVICE_REMOVED : real->C_FindObjectsInit(s, what, n); }

static CK_RV sign(CK_SESSION_HANDLE s, CK_BYTE *digest, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n) {
    long slow = number("slow");
    struct timespec pause = {slow / 1000, slow % 1000 * 1000000};
    nanosleep(&pause, NULL);
    wait_while("hangs");
    if (has("away"))
        return CKR_DEVICE_REMOVED;
    CK_RV rv = real->C_Sign(s, digest, n, out, out_n);
    if (rv == CKR_OK && has("lies"))
        out[5] ^= 1;
    return rv;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out);
CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out) {
    const char *path = getenv("MOODY_MODULE");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get = NULL;
    if (library)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (!get || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    own = *real;
    own.C_GetSlotList = get_slot_list;
    own.C_GetTokenInfo = get_token_info;
    own.C_OpenSession = open_session;
    own.C_Login = login;
    own.C_GenerateKeyPair = generate;
    own.C_DestroyObject = destroy;
    own.C_FindObjectsInit = find;
    own.C_Sign = sign;
    *out = &own;
    return CKR_OK;
}
