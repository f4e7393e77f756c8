"""A new version is on trial: if it does not do what the one before did, that one comes back.

The version that runs keeps itself when an upgrade begins (`keep`): as a package made from its own
files, beside a copy of this folder and a unit that runs the copy with the system's Python, all
outside of what the upgrade replaces. The copy (`trial`) needs nothing of the new version, which may
be broken in any way: it waits until dpkg is done, watches over the control socket, and leaves the
new version or installs the kept one. It refuses that version to apt from then on.

What was is the measure. A gateway that was connected must connect again; one that was not must
only run. While the broker that it had takes no connection from anybody, the trial's clock stands
still: a network that is away says nothing about a version. So it does while somebody has stopped
the service.

Every step may be the last before a power cut. The state is one small file, replaced in one step and
written when all else is in place; systemd starts the copy at each boot as long as that file is
there, before the gateway where dpkg was interrupted.

Nothing here imports anything but the standard library and its own folder, but `keep` the tools'
knowledge of the control socket.
"""
