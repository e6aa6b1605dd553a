"""FTPS: files on another machine's FTP server, over TLS from the first command on (RFC 4217; ADR 037)."""
