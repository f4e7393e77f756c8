"""Defects of delivery: what waits is taken for delivered, or does not leave as promised."""

from __future__ import annotations

from .mutant import Mutant

OUTBOX = "tests/agent/test_outbox.py"
ROUTE = "tests/agent/test_route.py"
TRUST = "tests/agent/test_trust.py"
UPLINK = "tests/agent/test_uplink.py"

MUTANTS = (
    Mutant(
        name="ack-on-sending",
        story="A record leaves the spool when it is sent; each broken connection loses what was "
        "on its way.",
        file="agent/delivery.py",
        old="""\
        self._outbox.sent(send, len(payload), self._boot_s())
""",
        new="""\
        self._outbox.sent(send, len(payload), self._boot_s())
        self._spool.acknowledge(send.parcel.ids, send.parcel.records)
""",
        caught_by=(f"{UPLINK}::test_what_the_broker_has_not_acknowledged_stays_in_the_spool",),
    ),
    Mutant(
        name="nobody-is-delivery",
        story="While the city's subscriber is down, the broker says so of each message, and all "
        "of them are taken for delivered.",
        file="agent/outbox.py",
        old="nobody = code == NO_MATCHING_SUBSCRIBERS and self._require_subscriber",
        new="nobody = False",
        caught_by=(f"{OUTBOX}::test_what_nobody_takes_is_held_and_asked_again_with_one_message",),
    ),
    Mutant(
        name="refused-is-delivery",
        story="An access list that forbids a topic, or a quota that is used up, loses every "
        "record that is sent there.",
        file="agent/outbox.py",
        old="if code < 0x80 and not nobody:",
        new="if code != PAYLOAD_FORMAT_INVALID and not nobody:",
        caught_by=(f"{OUTBOX}::test_what_nobody_takes_is_held_and_asked_again_with_one_message",),
    ),
    Mutant(
        name="lost-on-reconnect",
        story="What was in flight when the connection broke is never sent again in this life.",
        file="agent/outbox.py",
        old="""\
        self._cursor = BEFORE_ALL
        self._horizon = 0""",
        new="""\
        self._cursor = getattr(self, "_cursor", BEFORE_ALL)
        self._horizon = 0""",
        caught_by=(f"{OUTBOX}::test_after_a_loss_what_was_in_flight_is_sent_again",),
    ),
    Mutant(
        name="sent-while-offline",
        story="Records go into the MQTT library's own queue while there is no connection: it "
        "lives in memory and drops the newest when it is full.",
        file="agent/outbox.py",
        old='be sent again."""\n        self._connected = False',
        new='be sent again."""\n        self._connected = True',
        caught_by=(
            f"{OUTBOX}::test_nothing_is_sent_after_a_loss_until_there_is_a_connection_again",
        ),
    ),
    Mutant(
        name="past-the-window",
        story="A day of backlog goes out at once past the agreed number of messages in flight, "
        "and the broker hangs up, again and again.",
        file="agent/outbox.py",
        old="if not self._connected or len(self._flights) >= self._window:",
        new="if not self._connected:",
        caught_by=(f"{OUTBOX}::test_what_is_live_and_alerts_keep_to_the_window_too",),
    ),
    Mutant(
        name="sixteen-to-a-deaf-city",
        story="A topic on which nobody listens is tried with a full window each half minute.",
        file="agent/outbox.py",
        old="        return topic in self._proven or not any(",
        new="        return True or not any(",
        caught_by=(
            f"{OUTBOX}::test_a_topic_begins_with_one_message_and_opens_when_that_is_acknowledged",
        ),
        says="too many values to unpack (expected 1)",
    ),
    Mutant(
        name="no-jitter",
        story="After an outage all gateways of the city come back in the same instant, and throw "
        "the broker over again.",
        file="agent/route.py",
        old="return self._rng.uniform(0.1 * ceiling_s, ceiling_s)",
        new="return ceiling_s",
        caught_by=(
            f"{ROUTE}::test_gateways_that_lose_a_broker_together_do_not_come_back_together",
        ),
    ),
    Mutant(
        name="one-broker-only",
        story="With the first broker dead, the second one in the configuration is never tried.",
        file="agent/route.py",
        old="self._index = (self._index + 1) % len(self._brokers)",
        new="self._index = (self._index + 1) % 1",
        caught_by=(f"{ROUTE}::test_brokers_are_tried_in_turn_and_a_good_one_is_kept",),
    ),
    Mutant(
        name="receipts-ignored",
        story='With confirm = "receipt" the broker\'s word frees the spool all the same, and what '
        "the broker then loses is gone.",
        file="agent/outbox.py",
        old="""\
            if not self._receipts.wanted:
""",
        new="""\
            if parcel.ids:
""",
        caught_by=(f"{OUTBOX}::test_only_the_receipt_frees_the_spool",),
    ),
    Mutant(
        name="receipt-of-another-run",
        story="A receipt of last week's run frees this run's records, which the city never saw.",
        file="agent/receipts.py",
        old="self._through.get((run, stream), 0) >= top for stream, top in tops",
        new="""\
max((n for (_, own), n in self._through.items() if own == stream), default=0) >= top
            for stream, top in tops""",
        caught_by=(
            f"{OUTBOX}::test_a_receipt_of_another_run_or_stream_keeps_nothing_from_being_sent",
        ),
    ),
    Mutant(
        name="never-sent-again",
        story="What the broker acknowledged and lost is never sent again, however long its "
        "receipt is missing.",
        file="agent/receipts.py",
        old="""\
            over.append(row_id)
""",
        new="""\
            break
""",
        caught_by=(f"{OUTBOX}::test_what_stays_without_a_receipt_is_sent_again",),
    ),
    Mutant(
        name="runs-mixed",
        story="Records of two lives travel in one message under one run, and half of them get "
        "keys that belong to others.",
        file="agent/outbox.py",
        old="(e.run, e.config_id) == (first.run, first.config_id)",
        new="e.config_id == first.config_id",
        caught_by=(f"{OUTBOX}::test_a_live_message_holds_one_run_and_one_configuration_too",),
    ),
    Mutant(
        name="restamped",
        story="What waited through an outage arrives with the time at which it was sent.",
        file="agent/delivery.py",
        old="self._gateway_id, parcel.run, parcel.kind, parcel.config_id, parcel.bodies",
        new="""\
self._gateway_id, parcel.run, parcel.kind, parcel.config_id, [
                json.dumps(json.loads(body) | {"end": record.utc_text(self._utc_ns())})
                for body in parcel.bodies
            ]""",
        caught_by=(f"{UPLINK}::test_what_waited_arrives_as_it_was_committed",),
    ),
    Mutant(
        name="backlog-unpaced",
        story="An old backlog takes the whole mobile line, and its data volume, in a minute.",
        file="agent/outbox.py",
        old="""\
            self._allowance_bytes -= size_bytes
""",
        new="""\
            pass
""",
        caught_by=(f"{OUTBOX}::test_the_backlog_is_paced_and_live_is_not",),
    ),
    Mutant(
        name="past-before-present",
        story="Today's black ice waits behind last month's backlog.",
        file="agent/outbox.py",
        old="""\
            or self._next_prompt("live/", now_s)
            or self._next_backlog(now_s)
""",
        new="""\
            or self._next_backlog(now_s)
            or self._next_prompt("live/", now_s)
""",
        caught_by=(f"{OUTBOX}::test_the_present_comes_before_the_past",),
    ),
    Mutant(
        name="birth-not-retained",
        story="A platform that subscribes later never learns which sensors there are, nor that "
        "the gateway is online.",
        file="agent/presence.py",
        old='"status", payload, schema="yukimi.status/1", retain=True',
        new='"status", payload, schema="yukimi.status/1"',
        caught_by=(f"{UPLINK}::test_whoever_looks_later_sees_the_birth_and_after_a_cut_the_will",),
    ),
    Mutant(
        name="no-will",
        story="A gateway that lost its power looks online for ever.",
        file="agent/link.py",
        old="""\
        client.will_set(*will, qos=1, retain=True, properties=properties)
""",
        new="",
        caught_by=(f"{UPLINK}::test_whoever_looks_later_sees_the_birth_and_after_a_cut_the_will",),
    ),
    Mutant(
        name="said-to-be-offline",
        story="The will of a connection that died half-open comes late and overwrites the birth; "
        "the gateway sends and counts as dead.",
        file="agent/presence.py",
        old="""\
        if not online and not self._is_stopping():
""",
        new="""\
        if not online and self._is_stopping():
""",
        caught_by=(f"{UPLINK}::test_a_will_that_comes_late_is_overwritten",),
    ),
    Mutant(
        name="any-certificate",
        story="Whoever stands between the gateway and the city can show a certificate of his own "
        "and take the records.",
        file="agent/tls.py",
        old="    context.minimum_version = ssl.TLSVersion.TLSv1_2\n",
        new="""\
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
""",
        caught_by=(f"{TRUST}::test_without_a_clock_authority_and_name_are_verified_as_always",),
    ),
    Mutant(
        name="any-host",
        story="Every holder of a certificate of the city's authority, each of its gateways, can "
        "pass for the broker.",
        file="agent/tls.py",
        old="    context.minimum_version = ssl.TLSVersion.TLSv1_2\n",
        new="""\
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
""",
        caught_by=(f"{TRUST}::test_without_a_clock_authority_and_name_are_verified_as_always",),
    ),
    Mutant(
        name="any-date",
        story="A gateway without a clock believes a certificate that ended years ago, and whose "
        "key may long be in other hands.",
        file="agent/tls.py",
        old="if not ends_ns or min(ends_ns) < self.floor_ns:",
        new="if not ends_ns:",
        caught_by=(
            f"{TRUST}::test_without_a_clock_what_ended_before_the_last_known_time_is_not_believed",
        ),
    ),
    Mutant(
        name="believed-for-good",
        story="What was believed without a clock is believed for ever, also when the time has "
        "become known.",
        file="agent/trust.py",
        old="return not all(begin_ns <= now_ns <= end_ns for begin_ns, end_ns in chain)",
        new="return bool(chain) and now_ns < 0",
        caught_by=(
            f"{TRUST}::test_a_chain_that_was_believed_without_a_clock_is_judged_once_there_is_one",
        ),
    ),
    Mutant(
        name="secret-for-all",
        story="A private key that every user of the machine can read is used without a word.",
        file="agent/trust.py",
        old="    if mode & OPEN_TO_OTHERS:\n",
        new="    if mode & stat.S_IWOTH:\n",
        caught_by=(f"{TRUST}::test_a_secret_that_others_may_read_or_write_is_not_used",),
    ),
)
