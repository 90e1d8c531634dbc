"""Live feeds: what goes to an event's stream, as it goes; nothing is stored for it."""
