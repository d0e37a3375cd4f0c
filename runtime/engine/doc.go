// Package engine is the state machine of the containers of a revision: it mounts and
// starts them group by group, watches them, starts them again as their recovery policy
// says, and stops them in reverse order. Its [Backend] does the work; package device
// connects the engine to the rest of the runtime.
//
// One goroutine owns all state. Events (a container that ended, a timer, a request on
// the control socket) reach it as messages; long work runs in other goroutines, which
// send a message when they finish. Readers see a snapshot.
//
// A container goes through these statuses (manual: Containers, status):
//
//	status      | means                                     | leaves it when
//	------------+-------------------------------------------+------------------------------------------
//	INSTALLED   | nothing is mounted                        | its group opens, or BLOCKED
//	BLOCKED     | an earlier group is not at its goals      | they are reached or their time is over
//	MOUNTED     | its volumes are mounted                   | it is started, unless that is its goal
//	STARTING    | the launcher is starting it               | its init runs, or the start failed
//	STARTED     | its init runs                             | it signals ready, ends, or is stopped
//	READY       | it has signalled ready                    | it ends, or is stopped
//	RECOVERING  | it ended; a restart is due                | the delay is over, or by an action
//	STOPPING    | it was asked to end                       | it has ended: STOPPED or INSTALLED
//	STOPPED     | by a user, or because nothing restarts it | by an action, or after a back-off
//
// A group opens when every container of the groups before it has reached its goal,
// cannot reach it any more, or has used up its group's time. A container that cannot
// run never keeps the rest of the device from running: it is STOPPED with a reason that
// the control socket and the log show.
//
// [Engine.Transition] changes to another revision without a reboot: the containers that it
// changes or lacks are stopped, the others go on, and the groups open again in order.
package engine
