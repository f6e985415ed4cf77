/* tls_fault: see tls_fault.h.  The table says which of libssl's reasons means what; whatever is not in it is tls_handshake_failed with
 * libssl's own words. */
#include "http/tls_fault.h"

#include <openssl/err.h>

#include "http/tls.h"

#define ALERT(number) (SSL_AD_REASON_OFFSET + (number))

static const struct {
    int reason, code;
    const char *text; /* NULL: the code's own */
} reasons[] = {
    {SSL_R_HTTP_REQUEST, MUSTER_ETLSNOTTLS, "The client sent a plain HTTP request to the TLS port."},
    {SSL_R_HTTPS_PROXY_REQUEST, MUSTER_ETLSNOTTLS, "The client takes the gateway for a proxy: it sent CONNECT."},
    {SSL_R_WRONG_VERSION_NUMBER, MUSTER_ETLSNOTTLS, NULL},
    {SSL_R_BAD_RECORD_TYPE, MUSTER_ETLSNOTTLS, NULL},
    {SSL_R_UNSUPPORTED_PROTOCOL, MUSTER_ETLSPROTOCOL, NULL},
    {SSL_R_VERSION_TOO_LOW, MUSTER_ETLSPROTOCOL, NULL},
    {SSL_R_UNKNOWN_PROTOCOL, MUSTER_ETLSPROTOCOL, NULL},
    {SSL_R_INAPPROPRIATE_FALLBACK, MUSTER_ETLSPROTOCOL, "The client fell back to an older version of TLS without need."},
    {ALERT(SSL_AD_PROTOCOL_VERSION), MUSTER_ETLSPROTOCOL, "The client does not accept any version of TLS that is offered."},
    {SSL_R_NO_SHARED_CIPHER, MUSTER_ETLSNOCOMMON, "Client and gateway have no cipher in common."},
    {SSL_R_NO_SHARED_GROUPS, MUSTER_ETLSNOCOMMON, "Client and gateway have no curve in common."},
    {SSL_R_NO_SUITABLE_KEY_SHARE, MUSTER_ETLSNOCOMMON, "Client and gateway have no curve in common."},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, MUSTER_ETLSNOCOMMON, "Client and gateway have no kind of signature in common."},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, MUSTER_ETLSNOCOMMON, "Client and gateway have no kind of signature in common."},
    {SSL_R_WRONG_SIGNATURE_TYPE, MUSTER_ETLSNOCOMMON, "The client's certificate has a kind of key or signature that is not accepted."},
    {SSL_R_NO_APPLICATION_PROTOCOL, MUSTER_ETLSNOCOMMON, "The client offers application protocols (ALPN) and http/1.1 is not among them."},
    {ALERT(SSL_AD_HANDSHAKE_FAILURE), MUSTER_ETLSNOCOMMON, NULL},
    {ALERT(SSL_AD_INSUFFICIENT_SECURITY), MUSTER_ETLSNOCOMMON, "What the gateway offers is too weak for the client."},
    {ALERT(SSL_AD_UNKNOWN_CA), MUSTER_ETLSREJECTED, "The device does not know the CA of the gateway's certificate."},
    {ALERT(SSL_AD_CERTIFICATE_EXPIRED), MUSTER_ETLSREJECTED, "The device holds the gateway's certificate to be expired or not valid yet; its clock may be wrong."},
    {ALERT(SSL_AD_CERTIFICATE_REVOKED), MUSTER_ETLSREJECTED, "The device holds the gateway's certificate to be revoked."},
    {ALERT(SSL_AD_BAD_CERTIFICATE), MUSTER_ETLSREJECTED, "The device does not accept the gateway's certificate; the host name that it connects to may not be in it."},
    {ALERT(SSL_AD_UNSUPPORTED_CERTIFICATE), MUSTER_ETLSREJECTED, "The device cannot use the gateway's kind of certificate."},
    {ALERT(SSL_AD_CERTIFICATE_UNKNOWN), MUSTER_ETLSREJECTED, NULL},
    {ALERT(SSL_AD_ACCESS_DENIED), MUSTER_ETLSREJECTED, NULL},
    {SSL_R_BAD_SIGNATURE, MUSTER_ETLSPOSSESSION, NULL},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, MUSTER_ECHAINLONG, "The client sent a message that is larger than the handshake takes: too many certificates."},
    {SSL_R_CALLBACK_FAILED, MUSTER_ETLSFAILED, "The client's server name (SNI) is not a host name."},
};

static bool is_alert(int reason) { return reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256; }

static bool by_reason(int reason, struct err *why) {
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].reason == reason)
            return err_set(why, reasons[i].code, "%s", reasons[i].text ? reasons[i].text : "") != 0;
    return false;
}

static void explain_error(SSL *ssl, unsigned long e, struct err *why) {
    int reason = ERR_GET_REASON(e);
    bool reads_certificate = SSL_get_state(ssl) == TLS_ST_SR_CERT;
    if (reads_certificate && ERR_GET_LIB(e) != ERR_LIB_SSL) {
        err_set(why, MUSTER_ECERTMALFORMED, NULL);
        return;
    }
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && by_reason(reason, why))
        return;
    const char *text = ERR_reason_error_string(e);
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && is_alert(reason))
        err_set(why, MUSTER_ETLSFAILED, "The client ended the handshake with the alert \"%s\".", SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    else
        err_set(why, MUSTER_ETLSFAILED, text ? "The TLS handshake failed: %s." : NULL, text);
}

bool tls_fault(SSL *ssl, enum tls_end how, unsigned long e, bool handshake, struct err *why) {
    uint64_t received = BIO_number_read(SSL_get_rbio(ssl));
    if (!handshake) {
        if (how != TLS_END_ERROR || ERR_GET_LIB(e) != ERR_LIB_SSL || !is_alert(ERR_GET_REASON(e)))
            return false;
        explain_error(ssl, e, why);
        return true;
    }
    switch (how) {
    case TLS_END_ERROR:
        explain_error(ssl, e, why);
        return true;
    case TLS_END_CLOSED:
        if (received) /* who only opens and closes asks whether somebody listens */
            err_set(why, MUSTER_ETLSENDED, NULL);
        return received != 0;
    case TLS_END_TIMEOUT:
        err_set(why, MUSTER_ETLSTIMEOUT, received ? NULL : "The client opened a connection and said nothing.");
        return true;
    }
    return false;
}
