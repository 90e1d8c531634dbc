"""Interrupts, which tests send to what they start."""

import signal


def heed_interrupts() -> None:
    """Have SIGINT heeded here and by children, who inherit it. A shell has it ignored in a script's background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
