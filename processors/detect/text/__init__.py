"""Text as rules have to see it: without disguises, and words in any script."""
