"""Exporters: what is clean leaves through one of these."""
