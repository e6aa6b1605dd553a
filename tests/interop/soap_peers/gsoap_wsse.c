/* gSOAP's WS-Security: sends an order signed, or under a user name, and verifies the answer. Says one line of JSON for each step.
   arguments: endpoint, how (sign | user), key.pem, certificate.pem, ca.pem, version */
#include "wsseapi.h"
#include "order.nsmap"

static void read_pem(const char *key_file, const char *certificate_file, EVP_PKEY **key, X509 **certificate)
{
    FILE *file = fopen(key_file, "r");
    *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    if (file) fclose(file);
    file = fopen(certificate_file, "r");
    *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file) fclose(file);
}

int main(int count, char **arguments)
{
    EVP_PKEY *key;
    X509 *certificate;
    char *code = NULL;
    if (count < 7) return 2;
    struct soap *soap = soap_new1(SOAP_XML_CANONICAL);
    soap->connect_timeout = soap->send_timeout = soap->recv_timeout = 30;
    soap_register_plugin(soap, soap_wsse);
    read_pem(arguments[3], arguments[4], &key, &certificate);
    if (!key || !certificate) return 3;
    soap_wsse_add_Timestamp(soap, "Time", 300);
    if (!strcmp(arguments[2], "user")) {
        soap_wsse_add_UsernameTokenDigest(soap, "User", "lab-system", "a password");
    } else {
        if (soap_wsse_add_BinarySecurityTokenX509(soap, "X509Token", certificate)
            || soap_wsse_add_KeyInfo_SecurityTokenReferenceX509(soap, "#X509Token")
            || soap_wsse_sign_body(soap, EVP_PKEY_base_id(key) == EVP_PKEY_RSA ? SOAP_SMD_SIGN_RSA_SHA256 : SOAP_SMD_SIGN_ECDSA_SHA256, key, 0))
            return 4;
        soap->cafile = arguments[5];
        soap_wsse_verify_auto(soap, SOAP_SMD_NONE, NULL, 0);
    }
    int failed = soap_call_o__Order(soap, arguments[1], "urn:lab:order", "17", &code);
    if (failed) {
        const char **subcode = soap_faultsubcode(soap), **name = soap_faultcode(soap), **text = soap_faultstring(soap);
        printf("{\"fault\": \"%s\", \"text\": \"%s\"}\n", subcode && *subcode ? *subcode : *name, text && *text ? *text : "");
    } else {
        int verified = soap_wsse_verify_body(soap) == SOAP_OK;
        printf("{\"code\": \"%s\", \"verified\": %s}\n", code ? code : "", verified ? "true" : "false");
    }
    soap_wsse_verify_done(soap);
    soap_destroy(soap);
    soap_end(soap);
    soap_free(soap);
    return 0;
}
