"""What can go wrong with sandboxes and containers, one class for each answer that a caller gets.

`runtime.server` translates them to gRPC codes, once, at the rim.
"""


class RuntimeFault(Exception):
    """Base; the text is for the user."""


class NotFound(RuntimeFault):
    """No such sandbox, container or image."""


class InvalidArgument(RuntimeFault):
    """The request contradicts itself or asks for what cannot be."""


class FailedPrecondition(RuntimeFault):
    """It is in the wrong state for this."""


class DeadlineExceeded(RuntimeFault):
    """It took longer than the caller allows."""


class Unimplemented(RuntimeFault):
    """Known, and not done by this runtime."""


class Unavailable(RuntimeFault):
    """Something that is needed is missing on this machine."""


class Failed(RuntimeFault):
    """It was tried and did not work."""
