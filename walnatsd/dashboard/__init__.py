"""Pages for people, on the administration address."""
