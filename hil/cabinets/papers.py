"""The certificates of one cabinet: an authority, and what the broker shows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path


class Papers:
    """Change what it says before `write`."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"  # that the gateway believes
        self.true_ca = folder / "true-ca.pem"  # that issued the broker's
        self.broker_cert = folder / "broker.pem"
        self.broker_key = folder / "broker.key"
        self.names = ["localhost"]
        self.is_of_a_stranger = False
        self.begins_days = -10.0  # from now
        self.ends_days = 300.0

    def write(self) -> None:
        """Write all files."""
        import trustme  # only here: the bench's other parts do without

        authority, stranger = trustme.CA(), trustme.CA()
        (stranger if self.is_of_a_stranger else authority).cert_pem.write_to_path(self.ca)
        authority.cert_pem.write_to_path(self.true_ca)
        now = dt.datetime.now(dt.UTC)
        issued = authority.issue_cert(
            *self.names,
            not_before=now + dt.timedelta(days=self.begins_days),
            not_after=now + dt.timedelta(days=self.ends_days),
        )
        issued.cert_chain_pems[0].write_to_path(self.broker_cert)
        issued.private_key_pem.write_to_path(self.broker_key)
