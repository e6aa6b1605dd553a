/* A SOAP server by gSOAP that takes true XOP: attachments are written to files as they come. Arguments: port, folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "soapH.h"
#include "exchange.nsmap"

static const char *folder;
static int count;

static void *open_part(struct soap *soap, void *handle, const char *id, const char *type, const char *description, enum soap_mime_encoding encoding)
{
    char name[4096];
    (void)handle; (void)id; (void)type; (void)description; (void)encoding; (void)soap;
    snprintf(name, sizeof name, "%s/part-%d", folder, ++count);
    return fopen(name, "wb");
}

static int write_part(struct soap *soap, void *handle, const char *data, size_t size)
{
    (void)soap;
    return fwrite(data, 1, size, (FILE *)handle) == size ? SOAP_OK : SOAP_EOF;
}

static void close_part(struct soap *soap, void *handle) { (void)soap; fclose((FILE *)handle); }

int ns__Exchange(struct soap *soap, char *action, struct xsd__base64Binary message, struct ns__ExchangeResponse *out)
{
    static char attached[] = "attached to the reply";
    printf("%s %s %d\n", action, message.id ? "xop" : "inline", message.id ? 0 : message.__size);
    fflush(stdout);
    memset(out, 0, sizeof *out);
    out->payload.__ptr = (unsigned char *)attached;
    out->payload.__size = (int)strlen(attached);
    out->payload.id = soap_strdup(soap, "cid:reply@gsoap");
    out->payload.type = soap_strdup(soap, "text/plain");
    return SOAP_OK;
}

int main(int argc, char **argv)
{
    struct soap *soap = soap_new1(SOAP_ENC_MTOM | SOAP_XML_STRICT);
    if (argc != 3) return 2;
    folder = argv[2];
    soap->fmimewriteopen = open_part;
    soap->fmimewrite = write_part;
    soap->fmimewriteclose = close_part;
    soap->recv_timeout = soap->send_timeout = 60;
    soap->bind_flags = SO_REUSEADDR;
    if (!soap_valid_socket(soap_bind(soap, "127.0.0.1", atoi(argv[1]), 10))) { soap_print_fault(soap, stderr); return 1; }
    printf("ready\n");
    fflush(stdout);
    while (soap_valid_socket(soap_accept(soap))) {
        if (soap_serve(soap) != SOAP_OK) soap_print_fault(soap, stderr);
        soap_destroy(soap);
        soap_end(soap);
    }
    return 0;
}
