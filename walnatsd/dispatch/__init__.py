"""From a stream to an actor: the loop of an actor, the handling of one delivery, flow control."""
