"""How requests go from the spool to their destinations: in order, tried again, or into dead letters."""
