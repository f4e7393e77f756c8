"""What is wrong with this gateway, in one minute, for someone who stands before it in the cold.

A check is a small function of a `Site`: it looks at one thing and returns a `Finding`, which says
how it is, by what one can tell, and what to do next. `order.CHECKS` lists the checks in the order
of diagnosis. A check that needs another is not run where that one failed, and one that is only the
consequence of another is excused by it: so the first FAIL is the cause, and nothing that is sound
is accused.
"""
