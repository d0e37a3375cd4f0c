// Package updater takes the device from one revision to another, and back when the new
// one does not run (manual: Updates). One goroutine owns an update. Its phases are state
// functions; each returns the next one:
//
//	function   | status              | does                                    | then
//	-----------+---------------------+-----------------------------------------+--------------------
//	queued     | QUEUED              | waits for a reboot or a time of day     | install
//	install    | INPROGRESS          | checks state, objects and space; lays   | swap, restart;
//	           |                     | the files out                           | refuse
//	swap       | INPROGRESS          | replaces the containers that changed    | prove; revert
//	restart    | INPROGRESS          | tells the boot loader, reboots          | (resume)
//	resume     | INPROGRESS          | is the first phase after the reboot     | prove; fallBack
//	prove      | INPROGRESS, TESTING | waits for goals, commit delay, stability| keep; revert, fallBack
//	keep       | UPDATED, DONE       | sets the revision to try next, or       | end
//	           |                     | commits it                              |
//	revert     | ERROR               | brings the containers of the revision   | end; fallBack
//	           |                     | before back                             |
//	fallBack   | ERROR               | clears the try, reboots                 | (the loader)
//	refuse     | WONTGO              | leaves everything as it was             | end
//
// # What is written, and in which order
//
// The journal (see [Journal]) gets a record of each status before it takes effect; the
// revision's .pv/progress follows it and is what existing clients read; until an update has
// ended it is not synced. The boot loader's store decides which revision runs, so the order of
// its writes is what counts:
//
//	update with a reboot      journal INPROGRESS · files · journal "Rebooting" · pv_try=N · reboot
//	                          (N runs) journal TESTING · pv_rev=N, pv_try= · .pv/done · journal DONE
//	update without a reboot   journal INPROGRESS · files · containers · journal TESTING ·
//	                          pv_try=N · journal UPDATED; the next boot tries N and commits it
//	failure                   journal ERROR with the reason · pv_try= · reboot, or the old containers
//
// A power cut may come after any of them. What follows is decided at the next boot by
// [Resume], from the store and the journal alone:
//
//	store says | last record of the revision | means                                | then
//	-----------+-----------------------------+--------------------------------------+------------------------
//	trying N   | N failed                    | the reason was written, not the rest | clear the try, reboot
//	trying N   | anything else               | N runs for the first time            | prove N
//	fell back  | N failed                    | as it should be                      | clear the try
//	from N     | anything else               | N ended without a word               | try it again, see below, or
//	           |                             |                                      | ERROR "Unexpected rollback", clear the try
//	any but try| R, which runs, is open or   | committed, but not recorded          | DONE
//	           | failed                      |                                      |
//	steady R   | N is open, N ≠ R            | cut short before the loader knew     | ERROR "Unexpected rollback"
//	steady R   | N waits for a reboot        | its try was never written            | CANCELED
//	steady 0   | nothing                     | a device that has never been updated | DONE "Factory revision"
//	foreign    | the committed one is open   | the loader saw the store as it was   | DONE, reboot
//	           |                             | before the commit, the kernel did not|
//	foreign    | anything else               | chosen at the loader's prompt        | nothing
//
// A revision that ends without a word may have been cut off from its power. PV_UPDATER_TRIALS, 1 unless
// the configuration says more, is how many boots one update gets at most: the committed revision
// then counts one more in the journal, tells the loader and restarts, before it starts containers. An update
// that has said why it failed, and TRY_ONCE, are not tried again.
//
// Loaders read ext4 without its journal, and the kernel replays it when it mounts: a power cut
// in a commit can show the two of them different stores. A progress that is not what the last record
// of its revision says is written again; before the record of a failure it is made to say that
// the update has begun, so that NEW is always a revision that was stored since.
//
// An update that needs no reboot sets pv_try only when its containers have proved
// themselves, and a revision that is committed already is not set at all: then the try is
// cleared. So no failed revision is left for the loader. When the loader cannot be told, the
// update fails.
//
// A revision A that is UPDATED is what the next boot tries, unless an update B has the loader
// try B: when that fails without a restart, or is cancelled, A is set again. When B has restarted the
// device and failed, the loader starts the committed revision, and A is run again once.
package updater
