"""Listeners of the gRPC stream: their sessions, their credit, what they answer."""
