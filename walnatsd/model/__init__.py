"""The words of the field as types: events, actors, messages, outcomes, decisions. Pure, no I/O."""
