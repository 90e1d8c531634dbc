"""What can be wrong with the tools of observation."""


class ObserveError(Exception):
    """Traces, reports or figures can't be sent as the options say; the text says what to do."""
