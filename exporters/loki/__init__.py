"""Log records to Grafana Loki."""
