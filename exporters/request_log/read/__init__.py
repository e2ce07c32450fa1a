"""Reading: spans and log records of SDKs and of OTLP in, facts out."""
