"""The Prometheus exporter: an app shows its own metrics at a port, all its workers at one, without a gateway."""
