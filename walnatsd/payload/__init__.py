"""What a message says, besides its bytes."""
