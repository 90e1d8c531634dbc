"""The use cases behind all servers."""
