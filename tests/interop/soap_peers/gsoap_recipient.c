/* A Document Recipient (ITI-41) by gSOAP, which takes true XOP: documents are written to files as they come, and so are the metadata.
   Arguments: port, folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "soapH.h"
#include "recipient.nsmap"

static const char *folder;
static int parts, requests;

static FILE *file_for(const char *kind, int number)
{
    char name[4096];
    snprintf(name, sizeof name, "%s/%s-%d", folder, kind, number);
    return fopen(name, "wb");
}

static void *open_part(struct soap *soap, void *handle, const char *id, const char *type, const char *description, enum soap_mime_encoding encoding)
{
    (void)soap; (void)handle; (void)id; (void)type; (void)description; (void)encoding;
    return file_for("part", ++parts);
}

static int write_part(struct soap *soap, void *handle, const char *data, size_t size)
{
    (void)soap;
    return fwrite(data, 1, size, (FILE *)handle) == size ? SOAP_OK : SOAP_EOF;
}

static void close_part(struct soap *soap, void *handle) { (void)soap; fclose((FILE *)handle); }

int SOAP_ENV__Fault(struct soap *soap, char *faultcode, char *faultstring, char *faultactor, struct SOAP_ENV__Detail *detail,
    struct SOAP_ENV__Code *code, struct SOAP_ENV__Reason *reason, char *node, char *role, struct SOAP_ENV__Detail *detail12)
{
    (void)faultcode; (void)faultstring; (void)faultactor; (void)detail; (void)code; (void)reason; (void)node; (void)role; (void)detail12;
    return soap_send_empty_response(soap, SOAP_OK);
}

int xdsb__ProvideAndRegisterDocumentSetRequest(struct soap *soap, char *metadata, int count, struct xdsb__Document *documents, struct rs__RegistryResponse *out)
{
    FILE *file = file_for("metadata", ++requests);
    const char *action = soap->header && soap->header->wsa5__Action ? soap->header->wsa5__Action : "";
    int number;
    fwrite(metadata, 1, strlen(metadata), file);
    fclose(file);
    for (number = 0; number < count; number++)
        printf("%s %s %s %s\n", documents[number].id, documents[number].__item.id ? "xop" : "inline", documents[number].__item.type ? documents[number].__item.type : "", action);
    fflush(stdout);
    out->status = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success";
    soap->header = NULL;
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
        if (soap_serve(soap) != SOAP_OK) { printf("fault\n"); fflush(stdout); soap_print_fault(soap, stderr); }
        soap_destroy(soap);
        soap_end(soap);
    }
    return 0;
}
