"""A new version is on trial: if it does not do what the one before did, that one comes back.

The version that runs keeps itself when an upgrade begins (`keep`): as a package made from its own
files, beside a copy of this folder and a unit that runs the copy with the system's Python, all
outside of what the upgrade replaces. The copy (`trial`) needs nothing of the new version, which may
be broken in any way: it waits until dpkg is done, watches over the control socket, and leaves the
new version or installs the kept one.

What was is the measure: whatever the old version did, the new one must do. What is missing is not
always its fault, so the trial's clock stands still while it certainly is not: the broker that the
old one had is away or ill, nobody subscribes, somebody has stopped the service. Where that lasts
too long, the new one stays. Where nobody can tell, the old one comes back, and is the proof: only
if it does what the new one did not, that version stays refused to apt.

Every step may be the last before a power cut. The state is one small file, replaced in one step and
written when all else is in place; systemd starts the copy at each boot as long as its unit is
there, before the gateway where dpkg was interrupted. Without a state it takes the unit away.

Nothing here imports anything but the standard library and its own folder, but `keep` the tools'
knowledge of the control socket.
"""
