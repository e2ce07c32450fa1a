"""What a model call costs: the provider's own bill, or the price table, or nothing and why."""
