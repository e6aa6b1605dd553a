//gsoap ns service name: exchange
//gsoap ns service style: document
//gsoap ns service encoding: literal
//gsoap ns service namespace: urn:example:exchange
//gsoap ns schema namespace: urn:example:exchange
//gsoap ns schema elementForm: qualified
//gsoap ns service method-action: Exchange urn:exchange
struct xsd__base64Binary { unsigned char *__ptr; int __size; char *id; char *type; char *options; };
struct ns__ExchangeResponse { struct xsd__base64Binary payload; };
int ns__Exchange(char *action, struct xsd__base64Binary message, struct ns__ExchangeResponse *out);
