"""Defects of what the city asks: snow, road, what comes."""

from __future__ import annotations

from .mutant import Mutant

SNOW = "tests/agent/test_snow.py"
ROAD = "tests/agent/test_road.py"
FORECAST = "tests/agent/test_forecast.py"

MUTANTS = (
    Mutant(
        name="plough-is-snowfall",
        story="What a plough throws up beside the road is reported as fallen in that hour.",
        file="agent/phenomena/snow.py",
        old="        memory.steps_cm += step_cm\n",
        new="        memory.steps_cm += 0.0\n",
        caught_by=(
            f"{SNOW}::test_what_a_plough_throws_up_is_no_snowfall_and_a_parked_car_clears_nothing",
        ),
    ),
    Mutant(
        name="snowfall-below-zero",
        story="An hour in which the snow settles has less than no snowfall, and the day's sum is "
        "too small.",
        file="agent/phenomena/snow.py",
        old="        fallen_cm = max(0.0, depth_cm - memory.hour_cm - memory.steps_cm)\n",
        new="        fallen_cm = depth_cm - memory.hour_cm - memory.steps_cm\n",
        caught_by=(
            f"{SNOW}::test_new_snow_shrinks_at_a_clearing_only_and_no_hour_has_less_than_none",
        ),
    ),
    Mutant(
        name="ground-flickers",
        story="With a centimetre of snow the ground is white and bare from minute to minute.",
        file="agent/phenomena/snow.py",
        old='return "no_snow" if depth_cm <= BARE_TO_CM else before',
        new='return "no_snow"',
        caught_by=(f"{SNOW}::test_snow_and_no_snow_have_a_band_between_them",),
    ),
    Mutant(
        name="black-ice-is-a-plate",
        story="A film of ice that nobody sees counts as less slippery than packed snow.",
        file="agent/phenomena/road.py",
        old="return 3 if is_film(road.ice_mm) and road.friction is None else 2",
        new="return 2",
        caught_by=(f"{ROAD}::test_of_ice_the_layer_decides_where_friction_does_not",),
    ),
    Mutant(
        name="salt-holds-for-ever",
        story="A salted road that freezes all the same is said to be safe.",
        file="agent/phenomena/road.py",
        old="        likely_c = SALT_HOLDS_C\n",
        new="        return 0\n",
        caught_by=(f"{ROAD}::test_black_ice_by_the_table",),
    ),
    Mutant(
        name="forecasts-without-skill",
        story="Forecasts that are no better than a guess are published from the first day on.",
        file="agent/phenomena/forecast.py",
        old="        self.is_published = self.skill > SKILL_MIN and",
        new="        self.is_published = True or",
        caught_by=(f"{FORECAST}::test_noise_alone_is_not_published",),
    ),
)
