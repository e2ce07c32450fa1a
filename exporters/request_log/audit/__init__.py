"""The audit trail: an append-only Merkle log over commitments to rows, which shows changes made outside of it."""
