"""A trail that shows whether rows were changed behind the back of it: an append-only Merkle log over commitments."""
