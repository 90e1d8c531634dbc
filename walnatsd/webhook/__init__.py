"""One attempt at a webhook: the request, the answer, what it means."""
