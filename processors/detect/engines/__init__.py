"""Engines that find the places where rules are worth trying: Hyperscan, RE2, and Python's re."""
