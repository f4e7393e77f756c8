"""Scenarios: a day, a week, a winter of a gateway as a file, with what breaks and what must hold.

`model` and `load` say what a file may hold, `series` what really happens at a sensor, `verbs` what
can be broken. A `Stage` is where a scenario is played: `process` plays it in this process, faster
than time; what is judged (`judge`) and shown (`report`) is the same on every stage.
"""
