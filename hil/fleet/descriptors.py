"""A gateway is a socket here, two in the network between, one at the broker: limits are raised."""

from __future__ import annotations

import resource

OTHERS = 200  # libraries, logs, pipes


class TooFewDescriptorsError(Exception):
    """The machine does not allow as many open files; the message says what to do."""


def allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of open files for `wanted` sockets. Raises TooFewDescriptorsError."""
    needed = wanted + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TooFewDescriptorsError(
            f"{needed} open files are needed and the hard limit is {hard}: raise it (as root"
            f" `ulimit -Hn {needed}`, or LimitNOFILE= of the service), or take fewer gateways"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
