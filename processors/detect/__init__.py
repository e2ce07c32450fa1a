"""Detection: text in, findings out. Reports what is personal or secret and where; changes nothing."""
