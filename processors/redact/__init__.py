"""Replacing: findings and a policy in, the same text or value out without personal data."""
