"""Taking messages in: validate, encode, publish."""
