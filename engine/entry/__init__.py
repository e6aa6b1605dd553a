"""Who may enter where a source is an HTTP server: a registered party, proven by its certificate or by a token.

entrance    what a reception (engine.http_source) asks of whoever lets in
asking      a request whose sender is still being asked about
"""
