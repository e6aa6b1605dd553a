/* A SOAP client by gSOAP that sends a file by true XOP, piece by piece. Arguments: address, id, file. Says what is answered. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "soapH.h"
#include "orders.nsmap"

static void *open_part(struct soap *soap, void *handle, const char *id, const char *type, const char *description)
{
    (void)soap; (void)id; (void)type; (void)description;
    return handle;
}

static size_t read_part(struct soap *soap, void *handle, char *buffer, size_t size)
{
    (void)soap;
    return fread(buffer, 1, size, (FILE *)handle);
}

static void close_part(struct soap *soap, void *handle) { (void)soap; fclose((FILE *)handle); }

int main(int argc, char **argv)
{
    struct soap *soap = soap_new1(SOAP_ENC_MTOM | SOAP_XML_STRICT);
    struct xsd__base64Binary report;
    struct ns__OrderTaken taken;
    FILE *file;
    if (argc != 4 || !(file = fopen(argv[3], "rb"))) return 2;
    memset(&report, 0, sizeof report);
    fseek(file, 0, SEEK_END);
    report.__size = (int)ftell(file);
    rewind(file);
    report.__ptr = (unsigned char *)file;
    report.id = "cid:report one@gsoap";
    report.type = "application/octet-stream";
    soap->fmimereadopen = open_part;
    soap->fmimeread = read_part;
    soap->fmimereadclose = close_part;
    soap->recv_timeout = soap->send_timeout = 60;
    if (soap_call_ns__Order(soap, argv[1], "urn:lab:orders:PlaceOrder", argv[2], report, &taken) != SOAP_OK) {
        soap_print_fault(soap, stderr);
        return 1;
    }
    printf("%s %s\n", taken.order, taken.code);
    return 0;
}
