"""Who may enter where a source is an HTTP server: a registered party, proven by its certificate or by a token.

options                what a channel file says of it
entrance               what a reception (engine.http_source) asks at each request
authorization_server   the token endpoint of SMART backend services
assertions             how a party proves itself to it                          (pure)
scopes                 what a token lets its party do                           (pure)
tokens                 those that were issued: the file data/entry.db
introspection          tokens of another server
rates                  how often a party may ask                                (pure)
asking                 a request whose sender is still being asked about
"""
