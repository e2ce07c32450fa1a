"""How requests come in: listening, TLS, keys, HTTP, gRPC and REST, until they are redacted and in the spool."""
