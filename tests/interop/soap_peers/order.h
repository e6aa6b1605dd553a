//gsoap o service name: order
//gsoap o service style: document
//gsoap o service encoding: literal
//gsoap o service namespace: urn:lab
//gsoap o schema elementFormDefault: qualified
#import "wsse.h"
int o__Order(char *o__id, char **o__code);
