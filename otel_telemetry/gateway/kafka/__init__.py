"""Kafka between receiving and delivering: topics in place of the spool on the disk. Needs the extra `kafka`."""
