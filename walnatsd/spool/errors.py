"""What can go wrong with the spool.

SpoolError
├── SpoolFileError     the file can't be used: in use, not writable, damaged, or something else altogether
├── DamageError        what is read is not what was written
└── NotKeptError       a message can't be kept
    ├── FullError      there is no room for more: max_bytes, or the oldest is older than max_age
    ├── WriteError     the disk does not take it
    └── ClosedError    the daemon stops
"""


class SpoolError(Exception):
    """Something is wrong with the spool; in words."""


class SpoolFileError(SpoolError):
    """The file can't be used; in words that say what to do."""


class DamageError(SpoolError):
    """What is read is not what was written."""


class NotKeptError(SpoolError):
    """Nothing of it was written."""


class FullError(NotKeptError):
    """There is no room for more."""


class WriteError(NotKeptError):
    """The disk does not take it."""


class ClosedError(NotKeptError):
    """The daemon stops."""
