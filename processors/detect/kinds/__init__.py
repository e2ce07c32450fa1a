"""Values with a form of their own: addresses, cards, telephone numbers, wallets, official ids, keys."""
