// Package appengine runs Pantavisor as a daemon on a Linux that somebody else has
// set up (manual: Init Mode, App Engine mode): the same engine, logs and control
// socket as on a device, below one directory, the prefix.
//
//	PREFIX/etc/pantavisor.config    configuration; every path in it may be elsewhere
//	PREFIX/etc/pantavisor/          policies, default groups, trust
//	PREFIX/storage/                 objects, trails, disks, logs, the boot loader's values
//	PREFIX/run/pv/                  sockets; also PREFIX/run/pv.lock and pv.json, see below
//
// Nothing of an instance is outside of the prefix but its control groups,
// pantavisor/INSTANCE in every hierarchy, and the bridge of its containers. It lives in
// a mount namespace of its own, so that its mounts and the loop devices under them
// end with its processes, whatever ends these. Several instances run side by side:
// each has its prefix, and a name made of its run directory.
//
// There is no machine to restart, so the process takes the boot loader's part:
//
//	what happens                    | what follows
//	--------------------------------+---------------------------------------------------
//	REBOOT_DEVICE, a failed update, | all is stopped; this program begins anew, with the
//	back-off policy reboot          | revision that a boot loader would take (package boot)
//	POWEROFF_DEVICE, SIGINT         | all is stopped; exit code 3
//	SIGTERM                         | all is stopped; exit code 0
//	--once and a reboot             | all is stopped; exit code 0: whoever started it decides
//	the process is killed           | the next start ends what runs, removes what is left,
//	                                | which pv.json names, and goes on
package appengine
