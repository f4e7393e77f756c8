"""Defects of the spool: what was committed is lost, doubled, or unnamed."""

from __future__ import annotations

from .mutant import Mutant

SPOOL = "tests/agent/test_spool.py"
VOLATILE = "tests/agent/test_spool_volatile.py"
PACKS = "tests/agent/test_spool_packs.py"
FAULTS = "tests/agent/test_spool_faults.py"
RELEASE = "tests/agent/test_release.py"
BOUND = "tests/agent/test_spool_bound.py"

MUTANTS = (
    Mutant(
        name="no-sync",
        story="A power cut takes the records of the last half minute, and nobody can tell which.",
        file="agent/spoolfile.py",
        old="PRAGMA synchronous = FULL",
        new="PRAGMA synchronous = OFF",
        caught_by=(f"{SPOOL}::test_a_commit_is_synced_before_it_returns",),
    ),
    Mutant(
        name="sync-at-checkpoints",
        story="The disk is synced now and then, as SQLite recommends for its log: a power cut "
        "still takes records whose sending had begun.",
        file="agent/spoolfile.py",
        old="PRAGMA synchronous = FULL",
        new="PRAGMA synchronous = NORMAL",
        caught_by=(f"{SPOOL}::test_a_commit_is_synced_before_it_returns",),
    ),
    Mutant(
        name="number-of-a-failed-commit",
        story="A full disk uses up numbers, and the city waits for ever for records that never "
        "were.",
        file="agent/spool.py",
        old="""\
        produced = dict(self._produced)
        ends:""",
        new="""\
        produced = self._produced
        ends:""",
        caught_by=(f"{SPOOL}::test_a_failed_commit_uses_no_number_and_forgets_no_acknowledgement",),
    ),
    Mutant(
        name="number-twice",
        story="Two records of one stream get the same key, and the city keeps one of them.",
        file="agent/spool.py",
        old="""\
            produced[stream] = seq
""",
        new="""\
            produced[stream] = max(1, seq - 1)
""",
        caught_by=(f"{SPOOL}::test_numbers_begin_at_one_in_each_run_and_stream",),
    ),
    Mutant(
        name="run-of-the-boot",
        story="A restarted daemon goes on under its old run id and numbers from 1 again: the city "
        "takes its records for ones it has.",
        file="agent/app.py",
        old="run=secrets.token_hex(8)",
        new='run=kernel.boot_id().replace("-", "")[:16]',
        caught_by=("tests/agent/test_app.py::test_each_life_of_a_gateway_is_a_run_of_its_own",),
    ),
    Mutant(
        name="late-ack-takes-gap",
        story="An acknowledgement that was on its way removes the gap that took the record's "
        "place, and the loss beside it is never named.",
        file="agent/shelf.py",
        old="place = (BEFORE_ALL + self._new_id(), series, 1, first, last)",
        new="""\
own_id = min((p.id for p in group if p.id < 0), default=0)
        place = (own_id or BEFORE_ALL + self._new_id(), series, 1, first, last)""",
        caught_by=(
            f"{SPOOL}::test_an_acknowledgement_on_its_way_for_a_gap_leaves_the_one_it_was_joined_to",
        ),
    ),
    Mutant(
        name="evict-newest",
        story="A full spool throws this morning's snow away to keep last month's.",
        file="agent/shelf.py",
        old="AND id > 0 ORDER BY id LIMIT ?",
        new="AND id > 0 ORDER BY id DESC LIMIT ?",
        caught_by=(f"{SPOOL}::test_a_full_spool_gives_up_its_oldest_records_and_says_which",),
    ),
    Mutant(
        name="evict-unnamed",
        story="A full spool gives records up and tells nobody which.",
        file="agent/shelf.py",
        old="""\
                    self._put_gap(run_id, stream, group, why)
""",
        new="""\
                    pass
""",
        caught_by=(f"{SPOOL}::test_a_full_spool_gives_up_its_oldest_records_and_says_which",),
    ),
    Mutant(
        name="evict-start-records",
        story="The record that tells what the run before had produced is given up like any other, "
        "and nobody can see its lost tail any more.",
        file="agent/shelf.py",
        old="""\
                self._oldest("IS NULL", at_once)
""",
        new="""\
                self._oldest("IS NULL OR keep > 1", at_once)
""",
        caught_by=(f"{SPOOL}::test_the_records_that_begin_a_run_are_the_last_to_be_given_up",),
    ),
    Mutant(
        name="gap-without-cause",
        story="A broken card is reported as a full spool, and the technician looks at the network.",
        file="agent/spool.py",
        old='why = "disk_failed" if self.is_volatile else "spool_full"',
        new='why = "spool_full"',
        caught_by=(f"{VOLATILE}::test_memory_is_bounded_and_what_does_not_fit_is_named",),
    ),
    Mutant(
        name="bound-ignored",
        story="A long outage fills the disk, and the whole board stops with it.",
        file="agent/shelf.py",
        old="while self.used_bytes() + needed_bytes > room_bytes:",
        new="while self.used_bytes() + needed_bytes > 2 * room_bytes:",
        caught_by=(f"{SPOOL}::test_the_whole_footprint_stays_within_its_bound",),
    ),
    Mutant(
        name="log-unbounded",
        story="SQLite's log grows beside the bounded tables until the disk is full.",
        file="agent/spoolfile.py",
        old="PRAGMA wal_autocheckpoint = {log_bytes // PAGE_SIZE}",
        new="PRAGMA wal_autocheckpoint = 0",
        caught_by=(f"{SPOOL}::test_the_whole_footprint_stays_within_its_bound",),
    ),
    Mutant(
        name="log-without-room",
        story="A journal fills the card, and from the same minute on the spool cannot commit.",
        file="agent/spoolfile.py",
        old="os.posix_fallocate(log, 0, log_bytes)",
        new="os.posix_fallocate(log, 0, 1)",
        caught_by=(
            f"{VOLATILE}::test_what_others_fill_the_disk_with_does_not_take_the_room_of_the_log",
        ),
    ),
    Mutant(
        name="said-otherwise",
        story="A commit fails and is on the disk all the same. From memory the city hears that the "
        "window is burned; the power goes, and from the disk it hears the figures, under the same "
        "number.",
        file="agent/spool.py",
        old="is_in_doubt = (item.stream, seq) in self._in_doubt",
        new="is_in_doubt = False",
        caught_by=(
            f"{RELEASE}::test_the_next_life_may_find_that_release_and_it_is_the_only_thing_said_of_its_number",
            f"{FAULTS}::test_what_is_said_from_memory_is_not_said_otherwise_by_a_commit_that_had_failed",
        ),
    ),
    Mutant(
        name="never-burned",
        story="The disk is back, and of a window that could be neither released nor burned "
        "meanwhile nothing is said any more: the ledger stays open at it and grows.",
        file="agent/privacy/book.py",
        old=" or claim.name in unsaid",
        new="",
        caught_by=(
            f"{RELEASE}::test_a_window_whose_release_failed_is_a_gap_till_the_disk_is_back_and_is_burned_then",
        ),
    ),
    Mutant(
        name="salvaged-and-tried-again",
        story="A commit fails, the file is found damaged and salvaged with that commit in it, and "
        "its records are committed once more under the same numbers.",
        file="agent/storage.py",
        old="""\
            self._take_back(self._known_id, self._produced, self._attempt.produced)
""",
        new="",
        caught_by=(
            f"{RELEASE}::test_a_release_that_failed_and_was_salvaged_is_not_released_twice",
        ),
    ),
    Mutant(
        name="packed-past-the-newest",
        story="The city refuses a pack, it is taken apart, and the records of a rare sensor come "
        "behind later ones: the city waits for them, and receipts stay away.",
        file="agent/shelf.py",
        old="""\
                pieces = [
                    list(several)
                    for is_newest, several in groupby(row, stays.__contains__)
                    if not is_newest
                ]
""",
        new="""\
                pieces = [[row_id for row_id in row if row_id not in stays]]
""",
        caught_by=(f"{PACKS}::test_what_a_pack_is_taken_apart_into_keeps_its_place",),
    ),
    Mutant(
        name="worn-card-unseen",
        story="A record in which a worn card flipped a bit is sent to the city as it is.",
        file="agent/spool.py",
        old="""\
        self._give_up_damaged([e.id for e, crc in waiting if checksum(e.body) != crc])
        return [entry for entry, crc in waiting if checksum(entry.body) == crc]
""",
        new="""\
        return [entry for entry, _ in waiting]
""",
        caught_by=(f"{SPOOL}::test_a_live_record_or_alert_that_went_bad_is_given_up_not_sent",),
    ),
    Mutant(
        name="corrected-twice",
        story="A record whose time was put right stays among those that wait, and is moved again "
        "by the next correction.",
        file="agent/held.py",
        old="""\
"UPDATE record SET start_ns = ?, end_ns = ?, boot_start_ns = NULL,"
            " boot_end_ns = NULL, crc = ?, body = ? WHERE id = ?",""",
        new='"UPDATE record SET start_ns = ?, end_ns = ?, crc = ?, body = ? WHERE id = ?",',
        caught_by=(f"{SPOOL}::test_once_the_time_is_known_it_is_put_right_and_goes",),
    ),
    Mutant(
        name="corrected-by-another-boot",
        story="Records of yesterday's boot are dated by today's clock, hours off, and called "
        "corrected.",
        file="agent/held.py",
        old='" WHERE r.boot_end_ns IS NOT NULL AND run.boot_id = ?"',
        new='" WHERE r.boot_end_ns IS NOT NULL AND run.boot_id >= substr(?, 1, 0)"',
        caught_by=(f"{SPOOL}::test_the_time_of_another_boot_cannot_be_put_right",),
    ),
    Mutant(
        name="two-on-one-spool",
        story="A second daemon, started by hand, opens the same spool and gives out the same "
        "numbers.",
        file="agent/spoolfile.py",
        old="fcntl.LOCK_EX | fcntl.LOCK_NB",
        new="fcntl.LOCK_SH | fcntl.LOCK_NB",
        caught_by=(f"{SPOOL}::test_a_second_gateway_is_kept_away_until_the_first_is_gone",),
    ),
    Mutant(
        name="pack-out-of-order",
        story="A backlog that was packed arrives with the order of each stream turned round.",
        file="agent/shelf.py",
        old="rows.sort(key=lambda row: (self.names(row.series).stream, row.id))",
        new="rows.sort(key=lambda row: (self.names(row.series).stream, -row.id))",
        caught_by=(f"{PACKS}::test_a_pack_keeps_the_order_of_each_stream_and_is_of_one_kind",),
    ),
    Mutant(
        name="memory-unnamed",
        story="What memory cannot hold while the disk fails is dropped, and the next record "
        "takes its number.",
        file="agent/writer.py",
        old="batch: list[Record | AlertRecord | Lost] = [*self._lost.values(), *some]",
        new="batch: list[Record | AlertRecord | Lost] = [*some]",
        caught_by=("tests/agent/test_pipeline.py::test_what_memory_cannot_hold_is_named_in_a_gap",),
    ),
)
