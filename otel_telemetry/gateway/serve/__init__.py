"""The processes of the gateway: the work of each, their supervision, health and metrics."""
