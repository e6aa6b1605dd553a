//gsoap ns service name: orders
//gsoap ns service style: document
//gsoap ns service encoding: literal
//gsoap ns service namespace: urn:lab:orders
//gsoap ns schema namespace: urn:lab:orders
//gsoap ns schema elementForm: qualified
//gsoap ns service method-action: Order urn:lab:orders:PlaceOrder
struct xsd__base64Binary { unsigned char *__ptr; int __size; char *id; char *type; char *options; };
struct ns__OrderTaken { char *order; char *code; char *text; };
int ns__Order(char *id, struct xsd__base64Binary report, struct ns__OrderTaken *out);
