"""The spool: redacted requests on disk, kept until every destination has accepted or refused them."""
