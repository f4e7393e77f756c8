"""What the city may ask of a gateway from afar, each verb off until it is allowed.

A broker is no authority: whoever takes it over can write any command. So what only looks is
answered to whoever may publish, and what changes anything must be signed by somebody named in the
gateway's own file of signers, for this gateway, and not too long ago.
"""
