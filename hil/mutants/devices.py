"""Defects of drivers and buses: what a device says in place of a value, taken for one."""

from __future__ import annotations

from .mutant import Mutant

DRIVERS = "tests/drivers"
COLLECTOR = "tests/agent/test_collector.py"

MUTANTS = (
    Mutant(
        name="eighty-five-degrees",
        story="A thermometer whose supply breaks in reports 85 degrees in January.",
        file="drivers/ds18b20.py",
        old="if steps in (POWER_UP, NO_PULL_UP):",
        new="if steps == NO_PULL_UP:",
        caught_by=(
            f"{DRIVERS}/test_ds18b20.py::test_the_power_up_scratchpad_of_the_data_sheet_is_no_value",
        ),
    ),
    Mutant(
        name="shorted-wire-is-zero",
        story="A shorted 1-Wire cable reads as exactly 0 degrees, with a right checksum.",
        file="drivers/ds18b20.py",
        old="""\
    if not any(raw):
""",
        new="""\
    if not raw:
""",
        caught_by=(f"{DRIVERS}/test_ds18b20.py::test_what_is_no_sound_scratchpad_is_refused",),
    ),
    Mutant(
        name="below-zero-unsigned",
        story="A thermometer shows 4,000 degrees, or nothing, as soon as it freezes.",
        file="drivers/ds18b20.py",
        old='int.from_bytes(raw[:2], "little", signed=True)',
        new='int.from_bytes(raw[:2], "little", signed=False)',
        caught_by=(f"{DRIVERS}/test_ds18b20.py::test_sixteenths_of_a_degree_in_twos_complement",),
    ),
    Mutant(
        name="wrong-polynomial",
        story="Every reading of a 1-Wire thermometer is refused; the sensor looks dead.",
        file="drivers/checksums.py",
        old="_reflected_table(0x8C)",
        new="_reflected_table(0x31)",
        caught_by=(
            f"{DRIVERS}/test_checksums.py"
            "::test_crc8_maxim_gives_the_catalogues_check_value_and_that_of_maxims_own_example",
        ),
    ),
    Mutant(
        name="sound-speed-forgotten",
        story="On a cold night half a metre of snow is short by centimetres, because the sound "
        "was slower.",
        file="drivers/sr50a.py",
        old="return None if air_c is None else sound_corrected_m(said.distance_m, air_c)",
        new="return None if air_c is None else said.distance_m",
        caught_by=(
            f"{DRIVERS}/test_sr50a.py"
            "::test_what_another_sensor_measured_corrects_for_a_quarter_of_an_hour",
        ),
    ),
    Mutant(
        name="corrected-for-the-air-twice",
        story="A device that corrects for the air itself is corrected once more, and the depth "
        "is as wrong as without.",
        file="drivers/sr50a.py",
        old="""\
return None if said.temperature_c is None else said.distance_m
""",
        new="""\
return None if said.temperature_c is None else sound_corrected_m(
                said.distance_m, said.temperature_c
            )
""",
        caught_by=(f"{DRIVERS}/test_sr50a.py::test_an_sr50at_has_corrected_already",),
    ),
    Mutant(
        name="poor-echo-believed",
        story="In a blizzard the echoes of flakes are taken for the surface of the snow.",
        file="drivers/sr50a.py",
        old="if self.quality is not None and not QUALITY_BEST <= self.quality <= QUALITY_POOR:",
        new="if self.quality is not None and not QUALITY_BEST <= self.quality:",
        caught_by=(
            f"{DRIVERS}/test_sr50a.py::test_what_is_no_measurement_is_no_value_and_says_why",
        ),
    ),
    Mutant(
        name="no-echo-is-zero",
        story="A snow sensor that hears nothing says 0.000, and that is snow up to the sensor.",
        file="drivers/sr50a.py",
        old="distance_m if distance_m > 0 else None,",
        new="distance_m,",
        caught_by=(f"{DRIVERS}/test_sr50a.py::test_each_unit_is_read_and_its_way_to_say_nothing",),
    ),
    Mutant(
        name="status-is-a-value",
        story="A Lufft road sensor that cannot measure reports a road of 0 degrees.",
        file="drivers/lufft_umb.py",
        old="""\
    if status:
        return ChannelValue(channel, status, None)
""",
        new="""\
    if status:
        return ChannelValue(channel, 0, 0.0)
""",
        caught_by=(f"{DRIVERS}/test_lufft_umb.py::test_no_status_of_a_channel_becomes_a_value",),
    ),
    Mutant(
        name="frame-by-length-alone",
        story="On a disturbed line a road sensor's bytes are cut by their length and believed: "
        "a flipped bit is another temperature.",
        file="drivers/lufft_umb.py",
        old="end == EOT and crc == crc16_mcrf4xx(checked)",
        new="end == EOT and crc is not None",
        caught_by=(
            f"{DRIVERS}/test_lufft_umb.py"
            "::test_each_flipped_bit_is_noticed_and_the_next_frame_is_found",
        ),
    ),
    Mutant(
        name="frame-lost-in-garbage",
        story="After one disturbed byte the next good frame is skipped as well, on a noisy line "
        "nearly all of them.",
        file="drivers/framing.py",
        old="""\
            at += size or 1
""",
        new="""\
            at += size or len(self._rest)
""",
        caught_by=(
            f"{DRIVERS}/test_lufft_umb.py::test_junk_before_between_and_after_costs_no_frame",
        ),
    ),
    Mutant(
        name="no-target-is-a-distance",
        story="A MaxBotix that hears no echo reports five metres of air: the snow is gone.",
        file="drivers/maxbotix.py",
        old="""\
    if distance == no_target_mm:
        return "weak_signal"
""",
        new="""\
    if distance == no_target_mm:
        return None
""",
        caught_by=(
            f"{DRIVERS}/test_maxbotix.py"
            "::test_what_the_sensor_says_instead_of_a_distance_is_no_value",
        ),
    ),
    Mutant(
        name="too-near-is-a-depth",
        story="A spider's web before a MaxBotix is three metres of snow, and a plough is called.",
        file="drivers/maxbotix.py",
        old="""\
    if distance <= min_mm:
""",
        new="""\
    if distance < min_mm:
""",
        caught_by=(
            f"{DRIVERS}/test_maxbotix.py"
            "::test_what_the_sensor_says_instead_of_a_distance_is_no_value",
        ),
    ),
    Mutant(
        name="weak-echo-believed",
        story="Over wet black ice a lidar invents distances, and they are published as snow.",
        file="drivers/benewake_tf.py",
        old="if sample.distance_cm in (-1, -4, 0) or sample.strength <= traits.weak_strength:",
        new="if sample.distance_cm in (-1, -4, 0):",
        caught_by=(
            f"{DRIVERS}/test_benewake_tf.py::test_each_model_has_its_own_range_and_weakest_echo",
        ),
    ),
    Mutant(
        name="skipped-is-a-value",
        story="A BME280 that lost its power says that it measured nothing, and that becomes a "
        "temperature.",
        file="drivers/bme280.py",
        old="return None if raw == SKIPPED else fine_temperature(raw, cal) / 5120",
        new="return fine_temperature(raw, cal) / 5120",
        caught_by=(f"{DRIVERS}/test_bme280.py::test_skipped_is_no_value",),
    ),
    Mutant(
        name="humidity-words-exchanged",
        story="The two halves of a shared register are exchanged, and the dew point is off by "
        "degrees: ice warnings come at the wrong time.",
        file="drivers/bme280.py",
        old="e4 << 4 | e5 & 0x0F, e6 << 4 | e5 >> 4, h6",
        new="e4 << 4 | e5 >> 4, e6 << 4 | e5 & 0x0F, h6",
        caught_by=(f"{DRIVERS}/test_bme280.py::test_an_independent_library_computes_the_same",),
    ),
    Mutant(
        name="error-flag-ignored",
        story="An infrared thermometer that flags an error reports 382 degrees of road.",
        file="drivers/mlx90614.py",
        old="return None if raw & ERROR_FLAG else raw * KELVIN_STEP - ZERO_C_K",
        new="return raw * KELVIN_STEP - ZERO_C_K",
        caught_by=(f"{DRIVERS}/test_mlx90614.py::test_the_error_flag_is_no_temperature",),
    ),
    Mutant(
        name="pec-unchecked",
        story="A bit that flips on a long I2C cable is another road temperature.",
        file="drivers/mlx90614.py",
        old="""\
    if answer[2] != expected:
""",
        new="""\
    if answer[2] > 0xFF:
""",
        caught_by=(f"{DRIVERS}/test_mlx90614.py::test_one_damaged_bit_is_always_noticed",),
    ),
    Mutant(
        name="south-is-north",
        story="A gateway on the other half of the earth is shown as far north as it is south.",
        file="drivers/nmea.py",
        old='return (north if fields[1] == b"N" else -north)',
        new="return north",
        caught_by=(f"{DRIVERS}/test_nmea.py::test_places_of_all_sides",),
    ),
    Mutant(
        name="sentence-unchecked",
        story="A damaged digit in a receiver's sentence puts a patrol car into the sea.",
        file="drivers/nmea.py",
        old="if found is None or reduce(xor, found[1]) != int(found[2], 16):",
        new="if found is None:",
        caught_by=(f"{DRIVERS}/test_nmea.py::test_no_single_flipped_bit_makes_another_fix",),
    ),
    Mutant(
        name="words-exchanged",
        story="A 32-bit value of a Modbus device has its two words exchanged: 20 degrees are "
        "1.3 million.",
        file="drivers/modbus_rtu.py",
        old='ordered = bytes(raw[word_order.index(letter)] for letter in "ABCD")',
        new='ordered = bytes(raw[word_order.index(letter)] for letter in "CDAB")',
        caught_by=(f"{DRIVERS}/test_modbus_rtu.py::test_each_type_in_each_order_of_bytes",),
    ),
    Mutant(
        name="late-answer-taken",
        story="An answer that came too late is taken for the next question's: one sensor shows "
        "another's values.",
        file="drivers/dialogue.py",
        old="""\
    bus.discard_input()
""",
        new="",
        caught_by=(
            f"{DRIVERS}/test_dialogue.py"
            "::test_an_answer_that_comes_too_late_is_not_taken_for_the_next",
        ),
    ),
    Mutant(
        name="cut-wire-is-a-closed-door",
        story="A cabinet whose door wire is cut looks closed.",
        file="drivers/contact.py",
        old='pull="down" if self._good_level else "up"',
        new='pull="up" if self._good_level else "down"',
        caught_by=(
            f"{DRIVERS}/test_contact.py"
            "::test_an_open_circuit_is_an_alarm_whichever_way_it_is_wired",
        ),
    ),
    Mutant(
        name="retried-for-ever",
        story="One I2C device that holds the bus keeps its collector in a loop, and no sensor of "
        "that bus is read again.",
        file="drivers/buses.py",
        old="if exc.errno in _I2C_AGAIN and left:",
        new="if exc.errno in _I2C_AGAIN or left:",
        caught_by=(f"{DRIVERS}/test_buses.py::test_a_stuck_bus_is_asked_once",),
    ),
    Mutant(
        name="bug-kills-neighbours",
        story="A bug in one driver ends the thread of its bus, and the sensors beside it fall "
        "silent.",
        file="agent/collector.py",
        old="""\
            is_known = isinstance(exc, NoGlimpseError)
""",
        new="""\
            if not isinstance(exc, NoGlimpseError):
                raise
            is_known = isinstance(exc, NoGlimpseError)
""",
        caught_by=(f"{COLLECTOR}::test_a_bug_in_a_driver_stays_with_its_sensor",),
        says="ZeroDivisionError",
    ),
    Mutant(
        name="dead-device-starves-others",
        story="A dead device is asked again at once, for ever, and its neighbours hardly get a "
        "turn.",
        file="agent/collector.py",
        old="backoff_s = min(RETRY_CAP_S, RETRY_FIRST_S * 2**doublings)",
        new="backoff_s = 0.0 * doublings",
        caught_by=(
            f"{COLLECTOR}::test_a_dead_device_is_asked_less_and_less_often_and_never_given_up",
        ),
    ),
    Mutant(
        name="adapter-never-reopened",
        story="A USB adapter that is pulled out and put back is never read again.",
        file="agent/collector.py",
        old="""\
        self._bus.close()
        self._bus_is_open = self._bus_has_answered = False
""",
        new="""\
        self._bus_has_answered = False
""",
        caught_by=(f"{COLLECTOR}::test_when_no_device_answers_the_bus_is_opened_again",),
    ),
    Mutant(
        name="power-failure-waits-its-turn",
        story="That the power fails, or the cabinet is opened, waits up to a second until the "
        "pipeline has rested.",
        file="agent/collector.py",
        old="self._ring(at_once=True)",
        new="self._ring()",
        caught_by=(f"{COLLECTOR}::test_what_an_alert_may_hang_on_is_rung_for_at_once",),
    ),
    Mutant(
        name="frozen-is-measuring",
        story="A device that hangs and repeats its last answer looks alive for the whole winter.",
        file="drivers/base.py",
        old="""\
            self._said, self._since_ns = said, at_ns
""",
        new="""\
            self._since_ns = at_ns
""",
        caught_by=(
            f"{DRIVERS}/test_maxbotix.py::test_a_distance_that_never_moves_is_stuck_until_it_does",
        ),
    ),
    Mutant(
        name="unknown-road-is-dry",
        story="A road code that nobody knows is published as dry.",
        file="drivers/road.py",
        old='return LUFFT.get(code, "unknown")',
        new='return LUFFT.get(code, "dry")',
        caught_by=(f"{DRIVERS}/test_road.py::test_a_number_that_is_no_code_is_unknown",),
    ),
)
