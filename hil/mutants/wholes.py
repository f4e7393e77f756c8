"""Defects of alerts, configuration and the daemon as a whole."""

from __future__ import annotations

from .mutant import Mutant

ALERTS = "tests/agent/test_alerts.py"
RULES = "tests/agent/test_rules.py"
LASTGOOD = "tests/agent/test_lastgood.py"
LOAD = "tests/config/test_load.py"
PLAN = "tests/agent/test_plan.py"
DAEMON = "tests/agent/test_daemon.py"

MUTANTS = (
    Mutant(
        name="alert-each-time",
        story="An open door is a new alert each second, and the operator switches alerts off.",
        file="agent/alerts.py",
        old="""\
        if episode is None:
            episode = _Episode(""",
        new="""\
        if episode is None or not episode.is_gone:
            episode = _Episode(""",
        caught_by=(f"{ALERTS}::test_saying_it_again_is_no_news",),
    ),
    Mutant(
        name="alert-flaps",
        story="A loose contact raises and clears its alert each second.",
        file="agent/alerts.py",
        old="at_ns - self.seen_ns >= hold_s * 1e9",
        new="at_ns >= self.seen_ns",
        caught_by=(f"{ALERTS}::test_what_comes_and_goes_each_second_is_one_episode",),
    ),
    Mutant(
        name="alert-forgotten-at-restart",
        story="After a restart an alarm stays on the dispatcher's screen for ever: nobody knows "
        "any more that it was raised.",
        file="agent/app.py",
        old="""\
        self._book = AlertBook(
            self.spool.alarms(),
""",
        new="""\
        self._book = AlertBook(
            [],
""",
        caught_by=(
            "tests/agent/test_app.py::test_a_gateway_knows_the_alarms_that_the_one_before_it_left",
        ),
    ),
    Mutant(
        name="alarm-not-remembered",
        story="The newest state of an alert is not stored, and an episode breaks in two at every "
        "restart.",
        file="agent/spool.py",
        old="""\
                self._shelf.set_alarm(item, body)
""",
        new="""\
                pass
""",
        caught_by=(
            "tests/agent/test_pipeline_alerts.py::test_an_open_door_is_one_episode_over_a_restart",
        ),
    ),
    Mutant(
        name="worse-waits",
        story="What gets worse is told a minute later.",
        file="agent/alerts.py",
        old="""\
        if _SEVERITIES.index(self.severity) > _SEVERITIES.index(self.told_severity):
            return True
""",
        new="",
        caught_by=(f"{ALERTS}::test_what_gets_worse_is_told_at_once_and_what_gets_better_is_not",),
    ),
    Mutant(
        name="no-hysteresis",
        story="A road at the freezing point raises and clears its warning all night.",
        file="agent/rules.py",
        old="return self._between(key, value <= limit, value > limit + hysteresis)",
        new="return self._between(key, value <= limit, value > limit)",
        caught_by=(f"{RULES}::test_a_supply_between_both_thresholds_stays_what_it_was",),
    ),
    Mutant(
        name="maintenance-alarms",
        story="Each visit of a technician who opens the cabinet is an alarm at the dispatcher's.",
        file="agent/rules.py",
        old="if subject.in_maintenance or sensor in self.at_work:",
        new="if sensor in self.at_work:",
        caught_by=(f"{RULES}::test_a_sensor_in_maintenance_raises_nothing",),
    ),
    Mutant(
        name="unknown-key-accepted",
        story="A misspelt key in the configuration is ignored, and the default is used without a "
        "word.",
        file="config/model.py",
        old='ConfigDict(extra="forbid", strict=True',
        new='ConfigDict(extra="ignore", strict=True',
        caught_by=(
            f"{PLAN}::test_each_way_to_get_it_wrong_is_told_with_its_file_its_place_and_a_sentence",
        ),
    ),
    Mutant(
        name="one-id-twice",
        story="Two sensors with one id write into one stream, and nobody can tell them apart.",
        file="config/load.py",
        old="""\
        if first != index:
""",
        new="""\
        if first > index:
""",
        caught_by=(f"{LOAD}::test_one_id_twice_is_refused_across_files_too",),
    ),
    Mutant(
        name="exact-people",
        story="A configuration may set the noise so small, or the windows so short, that single "
        "people are told.",
        file="agent/plan.py",
        old="""\
        if fraction(value) > limit:
""",
        new="""\
        if fraction(value) > 8 * limit:
""",
        caught_by=(f"{PLAN}::test_one_real_people_sensor_ends_that_freedom",),
    ),
    Mutant(
        name="config-id-of-secrets",
        story="Renaming a password file makes all records look as if they were measured under "
        "another configuration.",
        file="config/load.py",
        old="_without_secrets(self.document), sort_keys=True",
        new="self.document, sort_keys=True",
        caught_by=(f"{LOAD}::test_where_secrets_are_does_not_change_it",),
    ),
    Mutant(
        name="reload-loses-the-spool",
        story="A reload with another [spool] path begins an empty spool, and what waited in the "
        "old one is never sent.",
        file="agent/daemon.py",
        old="""\
        for place in elsewhere:
            try:
""",
        new="""\
        for place in ():
            try:
""",
        caught_by=(f"{DAEMON}::test_a_reload_to_another_spool_takes_the_records_along",),
    ),
    Mutant(
        name="move-unsynced",
        story="A power cut while the spool is moved to another disk leaves neither the old one "
        "nor the new one.",
        file="agent/relocate.py",
        old="""\
        written.flush()
        os.fsync(written.fileno())
""",
        new="""\
        written.flush()
""",
        caught_by=(
            "tests/agent/test_relocate.py"
            "::test_the_copy_is_synced_before_it_has_the_name_and_the_original_goes_last",
        ),
    ),
    Mutant(
        name="last-good-unsynced",
        story="After a power cut the last good configuration is an empty file, and the gateway "
        "does not start.",
        file="agent/replacing.py",
        old="""\
        os.fsync(stream.fileno())
""",
        new="",
        caught_by=(
            f"{LASTGOOD}::test_the_content_is_synced_before_it_has_the_name_and_the_name_after",
        ),
    ),
    Mutant(
        name="damaged-last-good-runs",
        story="A last good configuration in which a worn card flipped a bit is run.",
        file="agent/lastgood.py",
        old='if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:',
        new='if not outer["sha256"]:',
        caught_by=(f"{LASTGOOD}::test_a_damaged_or_newer_one_is_passed_over",),
    ),
    Mutant(
        name="wrong-reload-stops",
        story="A typing error in a reloaded file stops the gateway that ran well.",
        file="agent/daemon.py",
        old="""\
                self._gateway.config_refused(exc.problems)
            return True
""",
        new="""\
                self._gateway.config_refused(exc.problems)
            return False
""",
        caught_by=(
            f"{DAEMON}::test_a_reload_to_a_wrong_configuration_is_refused_and_the_same_gateway_goes_on",
        ),
    ),
    Mutant(
        name="anybody-asks",
        story="Every user of the machine may ask the gateway, and read what its sensors say.",
        file="agent/socketfile.py",
        old="MODE = 0o660",
        new="MODE = 0o666",
        caught_by=(
            "tests/agent/test_control.py::test_owner_and_group_may_connect_and_nobody_else",
        ),
    ),
    Mutant(
        name="older-and-looser",
        story="A damaged file lets an older configuration run, which publishes with less noise.",
        file="agent/fallback.py",
        old="    if policy == own:\n",
        new="    if policy:\n",
        caught_by=(
            "tests/agent/test_fallback.py::test_an_older_one_runs_under_the_policy_that_was_last",
        ),
    ),
    Mutant(
        name="password-for-anybody",
        story="With a signer's key and any public certificate one is sent the broker's password.",
        file="agent/remote/applying.py",
        old="    if added and not _has_own_authority(running):\n",
        new="    if added and not running:\n",
        caught_by=(
            "tests/agent/remote/test_applying.py"
            "::test_a_broker_for_whom_anybody_may_vouch_is_not_named_from_afar",
        ),
    ),
    Mutant(
        name="trial-for-ever",
        story="What watches a trial fails, and no configuration can be applied until a restart.",
        file="agent/trials.py",
        old=', "bad"\n        if not is_over',
        new=', "tried"\n        if not is_over',
        caught_by=(
            "tests/agent/test_trials.py::test_a_trial_whose_watcher_dies_returns_and_bars_no_other",
        ),
    ),
    Mutant(
        name="city-away-update-blamed",
        story="The city's subscriber is away for a night, and every updated gateway goes back.",
        file="agent/gate/trial.py",
        old="    return sight.nobody_listens\n",
        new="    return False\n",
        caught_by=("tests/deb/test_gate.py::test_nor_does_a_city_that_does_not_listen",),
    ),
)
