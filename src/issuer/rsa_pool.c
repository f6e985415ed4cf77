/* rsa_pool: see rsa_pool.h. */
#include "issuer/rsa_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/log.h"

struct rsa_pool {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    size_t size, n;
    bool wanted, stopping;
    EVP_PKEY *keys[];
};

static bool has_work(const struct rsa_pool *p) { return p->wanted && p->n < p->size; }

static void *make_keys(void *arg) {
    struct rsa_pool *p = arg;
    struct err err = ERR_INIT;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19); /* devices come first */
    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        if (!has_work(p)) {
            pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        EVP_PKEY *key = NULL;
        int rc = key_generate(KEY_RSA, 2048, &key, &err);
        if (rc)
            log_err(LOG_ERROR, "rsa_key_failed", &err, NULL);
        pthread_mutex_lock(&p->lock);
        if (!rc)
            p->keys[p->n++] = key;
        else
            p->wanted = false; /* until somebody asks again */
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct rsa_pool *rsa_pool_new(size_t size, struct err *err) {
    struct rsa_pool *p = calloc(1, sizeof *p + size * sizeof *p->keys);
    if (!p) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    p->size = size;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    if (pthread_create(&p->thread, NULL, make_keys, p)) {
        free(p);
        err_set(err, MUSTER_EUNAVAILABLE, "A thread cannot be started.");
        return NULL;
    }
    return p;
}

void rsa_pool_free(struct rsa_pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    for (size_t i = 0; i < p->n; i++)
        EVP_PKEY_free(p->keys[i]);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void rsa_pool_want(struct rsa_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->wanted = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

int rsa_pool_take(struct rsa_pool *p, EVP_PKEY **out, struct err *err) {
    pthread_mutex_lock(&p->lock);
    EVP_PKEY *key = p->n ? p->keys[--p->n] : NULL;
    p->wanted = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (!key)
        return err_retry(err, MUSTER_ERSAPOOL, 2, NULL);
    *out = key;
    return 0;
}

size_t rsa_pool_count(struct rsa_pool *p) {
    pthread_mutex_lock(&p->lock);
    size_t n = p->n;
    pthread_mutex_unlock(&p->lock);
    return n;
}
