//gsoap xdsb service name: recipient
//gsoap xdsb service style: document
//gsoap xdsb service encoding: literal
//gsoap xdsb service namespace: urn:ihe:iti:xds-b:2007
//gsoap xdsb schema namespace: urn:ihe:iti:xds-b:2007
//gsoap xdsb schema elementForm: qualified
//gsoap lcm schema namespace: urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0
//gsoap rim schema namespace: urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0
//gsoap rs schema namespace: urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0
#import "wsa5.h"
typedef char *XML;
struct xsd__base64Binary { unsigned char *__ptr; int __size; char *id; char *type; char *options; };
struct xdsb__Document { struct xsd__base64Binary __item; @char *id; };
struct rs__RegistryResponse { @char *status; };
//gsoap xdsb service method-action: ProvideAndRegisterDocumentSetRequest urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b
int xdsb__ProvideAndRegisterDocumentSetRequest(XML lcm__SubmitObjectsRequest, int __sizeDocument, struct xdsb__Document *xdsb__Document, struct rs__RegistryResponse *out);
