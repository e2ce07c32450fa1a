"""What commands do with stored rows: report, tail, reprice, erase, scan."""
