"""What every exporter over HTTP shares: the client, destinations, compression, and what answers mean."""
