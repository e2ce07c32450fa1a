"""Sums of stored requests and calls over spans of time: made of the rows, held true, and read."""
