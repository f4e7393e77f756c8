"""The report of a gateway: one HTML file that needs nothing else, for a phone and for paper.

`facts` gathers what is known, `page` lays it out, `plots` draws; only the first asks anybody.
"""
