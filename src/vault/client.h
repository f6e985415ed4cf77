/* vault/client: what the request functions of vault.h (client_requests.c) share with the client itself (client.c). */
#ifndef MUSTER_VAULT_CLIENT_H
#define MUSTER_VAULT_CLIENT_H

#include "vault/vault.h"
#include "vault/wire.h"

/* By the request's type. */
union client_callback {
    vault_time_fn time;
    vault_time_sign_fn time_sign;
    vault_issue_fn issue;
    vault_hello_fn hello;
    vault_account_fn account;
    vault_version_fn version;
    vault_der_fn der;
    vault_server_fn server;
    vault_heads_fn heads;
    vault_done_fn done;
    vault_crl_begin_fn crl_begin;
    vault_crl_sign_fn crl_sign;
    vault_ocsp_fn ocsp;
};

/* Sends the request, whose type and fields are set, or keeps it until the channel takes it; `done` as vault.h says. */
int client_ask(struct vault_client *c, struct wire_request *rq, union client_callback done, void *arg, struct err *err) MUSTER_MUST_CHECK;

#endif
